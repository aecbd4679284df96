package qupath.ext.cytolite.gui;

import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.ServiceLoader;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

import javax.imageio.ImageIO;

import javafx.application.Platform;
import javafx.event.Event;
import javafx.scene.Node;
import javafx.scene.Parent;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.ChoiceBox;
import javafx.scene.control.ContextMenu;
import javafx.scene.control.Label;
import javafx.scene.control.Labeled;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuBar;
import javafx.scene.control.MenuItem;
import javafx.scene.control.TextField;
import javafx.scene.image.WritableImage;
import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;
import javafx.scene.layout.BorderPane;
import javafx.stage.Stage;
import javafx.stage.Window;

import org.locationtech.jts.io.ParseException;
import org.locationtech.jts.io.WKTReader;

import qupath.ext.cytolite.Cytolite;
import qupath.ext.cytolite.Density;
import qupath.ext.cytolite.Doctor;
import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.Outcome;
import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Screen;
import qupath.ext.cytolite.Stop;
import qupath.ext.cytolite.Taught;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;
import qupath.lib.gui.viewer.overlays.PathOverlay;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.FileServer;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.GeometryTools;
import qupath.lib.scripting.QP;

/**
 * Opens every window of the extension in a stand-in of QuPath's, presses what users press, and keeps pictures. The
 * extension is found as QuPath finds it: by the service that its jar names.
 */
public final class Photographs {
    private static Path folder;
    private static final CountDownLatch ENDED = new CountDownLatch(1);
    private static Throwable failure;

    private Photographs() { }

    public static void main(String[] arguments) throws InterruptedException {
        folder = Path.of(arguments[0]);
        Platform.setImplicitExit(false);
        Platform.startup(() -> start(new Stage()));
        ENDED.await();
        if (failure != null)
            failure.printStackTrace();
        System.exit(failure == null ? 0 : 1);
    }

    private static void start(Stage stage) {
        MenuBar menus = new MenuBar(new Menu("File"), new Menu("Extensions"));
        BorderPane root = new BorderPane(new Label("An image of a slide"));
        root.setTop(menus);
        stage.setScene(new Scene(root, 900, 500));
        stage.setTitle("Stand-in of QuPath");
        stage.show();
        QuPathGUI gui = new QuPathGUI(stage, menus);
        Thread user = new Thread(() -> {
            try {
                play(gui, menus);
            } catch (Throwable problem) {
                failure = problem;
            }
            ENDED.countDown();
        }, "user");
        user.setDaemon(true);
        user.start();
    }

    private static void play(QuPathGUI gui, MenuBar menus) throws Exception {
        List<QuPathExtension> found = ServiceLoader.load(QuPathExtension.class).stream().map(ServiceLoader.Provider::get).toList();
        require(found.size() == 1 && found.get(0) instanceof CytoliteExtension, "one extension is found by its service");
        onFx(() -> found.get(0).installExtension(gui));
        menu(gui, menus);
        options(gui);
        progress(gui);
        result(gui);
        teach(gui);
        density(gui);
        error(gui);
        script(gui);
        setUp(gui);
        help(gui);
    }

    private static void menu(QuPathGUI gui, MenuBar menus) throws Exception {
        Menu ours = (Menu) menus.getMenus().get(1).getItems().get(0);
        require(item(ours, "Find nuclei...").isDisable(), "without an image nothing can be found");
        require(!item(ours, "Set up...").isDisable(), "the set-up needs no image");
        require(ours.getItems().stream().noneMatch(it -> "Open in the browser viewer".equals(it.getText())), "no entry for a command that is not there");
        onFx(() -> gui.show(image(), null));
        require(!item(ours, "Find nuclei...").isDisable(), "with an image they can");
        Preferences preferences = new Preferences();
        onFx(() -> {
            preferences.rememberVerbs(List.of("segment", "view", "spatial", "teach", "apply"));
            new Entries(gui, preferences).install();
        });
        for (String title : List.of("Open in the browser viewer", "Density map overlay...", "Export labels for teaching", "Teach from labelled cells...", "Name the cells again..."))
            require(item(ours, title) != null, "what the package has is in the menu");
        onFx(() -> item(ours, "Name the cells again...").fire());
        require(texts("cytolite").stream().anyMatch(it -> it.contains("No result of this image was kept")), "why it cannot be, in a sentence");
        press("cytolite", "Close");
        List<MenuItem> items = List.copyOf(ours.getItems());
        ContextMenu shown = new ContextMenu();
        onFx(() -> {
            shown.getItems().setAll(items);  // a menu inside a menu opens under a mouse alone
            shown.show(gui.getStage(), 20, 60);
        });
        Thread.sleep(300);
        save(onFxGet(() -> shown.getScene().snapshot(null)), "menu");
        onFx(() -> {
            shown.hide();
            ours.getItems().setAll(items);
        });
    }

    private static void options(QuPathGUI gui) throws Exception {
        Preferences preferences = new Preferences();
        Request[] asked = new Request[1];
        onFx(() -> {
            preferences.rememberSpeed(Request.DEFAULT, 0.05);
            OptionsWindow window = new OptionsWindow(gui, preferences, List.of("nuclei-light-int8", "nuclei-base-int8", "/home/me/.cytolite/models/melanoma"));
            window.show(request -> asked[0] = request);
        });
        photograph("options", "cytolite: find nuclei");
        require(texts("cytolite: find nuclei").stream().anyMatch(it -> it.contains("2 regions, 0.16 mm\u00b2; about 0:00:03")), "the estimate: " + texts("cytolite: find nuclei"));
        press("cytolite: find nuclei", "Run");
        require(Request.DEFAULT.equals(asked[0]), "Run asks for what is shown");
        onFx(() -> gui.getImageData().getHierarchy().removeObjects(List.copyOf(gui.getImageData().getHierarchy().getAnnotationObjects()), true));
        onFx(() -> new OptionsWindow(gui, preferences, List.of()).show(request -> { }));
        require(button("cytolite: find nuclei", "Run").isDisable(), "without a region Run cannot be pressed");
        photograph("options-nothing", "cytolite: find nuclei");
        press("cytolite: find nuclei", "Close");
    }

    private static void progress(QuPathGUI gui) throws Exception {
        AtomicInteger cancelled = new AtomicInteger();
        ProgressWindow[] window = new ProgressWindow[1];
        onFx(() -> {
            window[0] = new ProgressWindow(gui.getStage(), cancelled::incrementAndGet, 0);
            window[0].show();
            window[0].update("1.23 of 4.50 mm\u00b2, 0.05 mm\u00b2/s, 0:01:05 left", 0.27);
            window[0].log("Running /home/me/cytolite/bin/python3 -m cytolite segment slide.svs");
        });
        photograph("progress", "cytolite");
        for (KeyCode key : List.of(KeyCode.SPACE, KeyCode.ENTER, KeyCode.ESCAPE))
            onFx(() -> hold(stage("cytolite"), key));
        require(cancelled.get() == 0, "no key cancels");
        press("cytolite", "Cancel");
        require(cancelled.get() == 0, "after a minute there is a question first");
        photograph("question", "cytolite");
        press("cytolite", "No, go on");
        require(cancelled.get() == 0 && button("cytolite", "Cancel").isVisible(), "no goes on");
        onFx(() -> Event.fireEvent(stage("cytolite"), new javafx.stage.WindowEvent(stage("cytolite"), javafx.stage.WindowEvent.WINDOW_CLOSE_REQUEST)));
        require(stage("cytolite") != null && cancelled.get() == 0, "the cross asks too");
        press("cytolite", "Yes, cancel");
        require(cancelled.get() == 1, "yes cancels");
        onFx(window[0]::close);
        ProgressWindow[] young = new ProgressWindow[1];
        onFx(() -> {
            young[0] = new ProgressWindow(gui.getStage(), cancelled::incrementAndGet, ProgressWindow.ASK_AFTER_S);
            young[0].show();
        });
        press("cytolite", "Cancel");
        require(cancelled.get() == 2, "in the first minute Cancel cancels");
        onFx(young[0]::close);
    }

    private static void result(QuPathGUI gui) throws Exception {
        Map<String, Integer> counts = new LinkedHashMap<>();
        List<PathClass> classes = new ArrayList<>();
        Object[][] types = {{"Neoplastic", 1203, 0xff0000}, {"Connective", 402, 0x0000ff}, {"Lymphocyte", 377, 0x00a000}, {"Epithelial", 99, 0xffa500}, {"Dead", 4, 0xdddd00}};
        for (Object[] each : types) {
            counts.put((String) each[0], (Integer) each[1]);
            classes.add(PathClass.fromString((String) each[0], (Integer) each[2]));
        }
        Screen screen = onFxGet(() -> new WindowScreen(gui));
        require(stage("cytolite") != null, "a window at once");
        screen.addClasses(classes);
        screen.warn("a b.svs: The pixel size comes from QuPath.");
        screen.done(new Outcome("2 regions", 2085, counts, 1.52, 34.2, List.of("The slide is blurred in places.", "The pixel size comes from QuPath."), new File("/slides/my project/cytolite/1/slide")));
        screen.end();
        photograph("result", "cytolite: result");
        List<String> texts = texts("cytolite: result");
        require(texts.contains("2,085 nuclei in 2 regions") && texts.contains("1.52 mm\u00b2, 1,372 per mm\u00b2, 34.2 s"), "counts: " + texts);
        require(texts.stream().filter(it -> it.contains("pixel size")).count() == 1, "no warning twice");
        require(texts.stream().anyMatch(it -> it.contains("not for diagnosis")), "the notice");
        require(stage("cytolite") == null, "the window of the run is gone");
        require(gui.getAvailablePathClasses().size() == 5, "classes that were missing are in the list");
        press("cytolite: result", "Close");
    }

    private static void teach(QuPathGUI gui) throws Exception {
        require(!onFxGet(() -> Home.model("my-model").exists()), "a folder of the tests alone");
        List<Object> asked = new ArrayList<>();
        onFx(() -> new TeachWindow(gui, (others, model) -> asked.add(model)).show());
        require(button("cytolite: teach", "Teach").isDisable(), "without labels nothing can be taught");
        press("cytolite: teach", "Close");
        label(gui);
        onFx(() -> new TeachWindow(gui, (others, model) -> asked.add(model)).show());
        require(texts("cytolite: teach").contains("    Mitosis: 7 points, 1 area"), "labels: " + texts("cytolite: teach"));
        TextField name = (TextField) onFxGet(() -> nodes(stage("cytolite: teach").getScene().getRoot()).stream().filter(it -> it instanceof TextField).findFirst().orElseThrow());
        onFx(() -> name.setText("../up"));
        require(button("cytolite: teach", "Teach").isDisable(), "a name is no path");
        onFx(() -> name.setText("melanoma"));
        photograph("teach", "cytolite: teach");
        press("cytolite: teach", "Teach");
        require(asked.equals(List.of(Home.model("melanoma"))), "it is asked for");
        List<Taught.Row> rows = List.of(new Taught.Row("neoplastic", 50, 0.88, 0.81, 0.93, 0.08), new Taught.Row("lymphocyte", 50, 0.91, 0.85, 0.95, 0.9),
            new Taught.Row("mitosis", 8, 0.4, 0.1, 0.71, Double.NaN));
        Taught taught = new Taught(Home.model("melanoma"), rows, new Taught.Row("mean", 108, 0.73, 0.61, 0.84, 0.49), "3 slides",
            List.of("5: 0.61", "8: 0.70"), List.of("Fewer than 25 labels of mitosis: these scores say little yet."));
        onFx(() -> new TaughtWindow(gui.getStage(), taught, List.of("labels.geojson: 2 labels have no nucleus within 3 um"), () -> asked.add("named")).show());
        photograph("taught", "cytolite: taught");
        require(texts("cytolite: taught").containsAll(List.of("0.88 (0.81 to 0.93)", "0.08", "-")), "scores: " + texts("cytolite: taught"));
        press("cytolite: taught", "Name the cells again");
        require(asked.contains("named") && stage("cytolite: taught") == null, "and then the cells are named");
        onFx(() -> new NameWindow(gui, "nuclei-light", List.of("/home/me/.cytolite/models/melanoma"), asked::add).show());
        photograph("name", "cytolite: name the cells again");
        press("cytolite: name the cells again", "Name the cells again");
        require(asked.contains("/home/me/.cytolite/models/melanoma"), "the model that was taught is offered first");
    }

    private static void label(QuPathGUI gui) throws Exception {
        for (String wkt : List.of("MULTIPOINT ((1 1), (2 2), (3 3), (4 4), (5 5), (6 6), (7 7))", "POLYGON ((0 0, 40 0, 40 80, 0 0))")) {
            PathObject made = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(new WKTReader().read(wkt), ImagePlane.getDefaultPlane()),
                PathClass.fromString("Mitosis", 0x123456));
            onFx(() -> gui.getImageData().getHierarchy().addObjects(List.of(made)));
        }
    }

    private static void density(QuPathGUI gui) throws Exception {
        Density density = Density.open(new File(System.getenv("CYTOLITE_TEST_RESULT")));
        onFx(() -> new DensityWindow(gui, density).show());
        photograph("density", "cytolite: density map");
        require(gui.getViewer().getCustomOverlayLayers().size() == 1, "one map lies over the image");
        PathOverlay overlay = gui.getViewer().getCustomOverlayLayers().get(0);
        require("neoplastic: 130 per mm\u00b2".equals(overlay.getLocationString(gui.getImageData(), 2401, 1041, 0, 0)), "the value under the mouse");
        require(overlay.getLocationString(gui.getImageData(), -1, 0, 0, 0) == null && overlay.getLocationString(gui.getImageData(), 0, 1e6, 0, 0) == null, "none beside the image");
        BufferedImage painted = new BufferedImage(400, 240, BufferedImage.TYPE_INT_ARGB);
        Graphics2D graphics = painted.createGraphics();
        graphics.scale(0.1, 0.1);
        overlay.paintOverlay(graphics, null, 10, image(), true);
        require(painted.getRGB(300, 130) == 0, "it is not laid over another image");
        overlay.paintOverlay(graphics, null, 10, gui.getImageData(), true);
        require(painted.getRGB(300, 130) != 0 && painted.getRGB(2, 2) == 0, "it lies where the nuclei are");
        ImageIO.write(painted, "png", folder.resolve("overlay.png").toFile());
        ChoiceBox<?> type = (ChoiceBox<?>) onFxGet(() -> nodes(stage("cytolite: density map").getScene().getRoot()).stream().filter(it -> it instanceof ChoiceBox).findFirst().orElseThrow());
        onFx(() -> type.getSelectionModel().select(1));
        require(gui.getViewer().getCustomOverlayLayers().size() == 1, "another type takes its place");
        press("cytolite: density map", "Close, and take the map away");
        require(gui.getViewer().getCustomOverlayLayers().isEmpty(), "and it goes with the window");
    }

    private static void error(QuPathGUI gui) throws Exception {
        Screen screen = onFxGet(() -> new WindowScreen(gui));
        screen.log("a line of the log");
        screen.fail(new Stop("slide.svs holds no resolution: say how large a pixel is (--mpp), or set it in QuPath's Image tab."));
        screen.end();
        photograph("error", "cytolite");
        press("cytolite", "Copy report");
        String copied = onFxGet(() -> javafx.scene.input.Clipboard.getSystemClipboard().getString());
        require(copied.startsWith("slide.svs holds no resolution") && copied.contains("a line of the log") && copied.contains("Java"), "the report: " + copied);
        press("cytolite", "Close");
        Screen cancelled = onFxGet(() -> new WindowScreen(gui));
        cancelled.fail(Stop.cancelled());
        cancelled.end();
        onFx(() -> { });  // what was sent to JavaFX's thread before is done
        require(stage("cytolite") == null, "who cancels is not told of it");
    }

    /** A script of the script editor, which has a thread of its own: on the open image it gets the windows. */
    private static void script(QuPathGUI gui) throws Exception {
        QP.setBatchProjectAndImage(null, gui.getImageData());
        onFx(() -> gui.getImageData().getHierarchy().addObjects(image().getHierarchy().getAnnotationObjects()));
        Cytolite.measureAgain();
        waitFor(() -> onFxGet(() -> stage("cytolite")) != null);
        require(texts("cytolite").stream().anyMatch(it -> it.contains("no cells of cytolite yet")), "the sentence: " + texts("cytolite"));
        press("cytolite", "Close");
        QP.setBatchProjectAndImage(null, image());
        try {
            Cytolite.measureAgain();
            require(false, "on another image, as in a batch, it fails loudly");
        } catch (Stop stop) {
            require(onFxGet(() -> stage("cytolite")) == null, "and without a window");
        }
    }

    private static void setUp(QuPathGUI gui) throws Exception {
        Doctor[] used = new Doctor[1];
        SetupWindow window = onFxGet(() -> new SetupWindow(gui.getStage(), doctor -> used[0] = doctor));
        onFx(window::show);
        waitFor(() -> !onFxGet(window::texts).get(0).startsWith("Looking"));
        Doctor bad = new Doctor("/opt/python", "9.9.9", List.of(), List.of(new Doctor.Finding("OpenSlide", "bad", "ImportError: libtiff", "pip install --force-reinstall openslide-bin.")), List.of());
        onFx(() -> window.show(bad));
        require(button("cytolite: set up", "Use this").isDisable(), "what does not work cannot be used");
        require(onFxGet(window::texts).stream().anyMatch(it -> it.contains("the package is 9.9.9")), "versions are compared");
        photograph("setup", "cytolite: set up");
        press("cytolite: set up", "Copy");
        String mine = CytoliteExtension.version();
        onFx(() -> window.show(new Doctor("/opt/python", mine, List.of("a"), List.of(new Doctor.Finding("Java", "good", "there", "")), List.of())));
        require(onFxGet(window::texts).size() == 1, "all good is one line");
        press("cytolite: set up", "Use this");
        require(used[0] != null && stage("cytolite: set up") == null, "it is used");
    }

    private static void help(QuPathGUI gui) throws Exception {
        onFx(() -> HelpWindow.show(gui.getStage()));
        photograph("help", "cytolite: help");
    }

    // ---- an image ------------------------------------------------------------------------------------------------

    private static ImageData<BufferedImage> image() {
        ImageData<BufferedImage> image = new ImageData<>(FileServer.open(URI.create("file:/slides/a.svs"), 4000, 3000, 0.5, 0.5, false));
        for (String wkt : List.of("POLYGON ((0 0, 400 0, 400 800, 0 800, 0 0))", "POLYGON ((900 0, 1300 0, 1300 800, 900 800, 900 0))"))
            try {
                PathObject made = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(new WKTReader().read(wkt), ImagePlane.getDefaultPlane()), null);
                image.getHierarchy().addObjects(List.of(made));
            } catch (ParseException impossible) {
                throw new IllegalStateException(impossible);
            }
        return image;
    }

    // ---- hands and eyes ------------------------------------------------------------------------------------------

    private interface Work<T> {
        T get() throws Exception;
    }

    private static <T> T onFxGet(Work<T> work) throws Exception {
        Object[] answer = new Object[2];
        CountDownLatch done = new CountDownLatch(1);
        Platform.runLater(() -> {
            try {
                answer[0] = work.get();
            } catch (Exception problem) {
                answer[1] = problem;
            }
            done.countDown();
        });
        done.await();
        if (answer[1] != null)
            throw (Exception) answer[1];
        @SuppressWarnings("unchecked")
        T typed = (T) answer[0];
        return typed;
    }

    private static void onFx(Runnable work) throws Exception {
        onFxGet(() -> {
            work.run();
            return null;
        });
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void waitFor(Condition condition) throws Exception {
        for (int i = 0; i < 600 && !condition.holds(); i++)
            Thread.sleep(50);
        require(condition.holds(), "it happened in time");
    }

    private static void require(boolean condition, String what) {
        if (!condition)
            throw new AssertionError(what);
    }

    private static MenuItem item(Menu menu, String text) {
        return menu.getItems().stream().filter(it -> text.equals(it.getText())).findFirst().orElseThrow();
    }

    private static Stage stage(String title) {
        return Window.getWindows().stream().filter(it -> it instanceof Stage && it.isShowing() && title.equals(((Stage) it).getTitle()))
            .map(it -> (Stage) it).findFirst().orElse(null);
    }

    private static List<Node> nodes(Parent parent) {
        List<Node> all = new ArrayList<>();
        for (Node child : parent.getChildrenUnmodifiable()) {
            all.add(child);
            if (child instanceof Parent below)
                all.addAll(nodes(below));
        }
        return all;
    }

    private static List<String> texts(String title) throws Exception {
        return onFxGet(() -> nodes(stage(title).getScene().getRoot()).stream().filter(it -> it instanceof Labeled).map(it -> ((Labeled) it).getText()).filter(it -> it != null).toList());
    }

    private static Button button(String title, String text) throws Exception {
        return onFxGet(() -> nodes(stage(title).getScene().getRoot()).stream()
            .filter(it -> it instanceof Button && text.equals(((Button) it).getText())).map(it -> (Button) it).findFirst().orElseThrow());
    }

    private static void press(String title, String text) throws Exception {
        Button button = button(title, text);
        onFx(button::fire);
    }

    /** A key goes to what has the focus, else to the scene. */
    private static void hold(Stage stage, KeyCode key) {
        Node focused = stage.getScene().getFocusOwner();
        for (var type : List.of(KeyEvent.KEY_PRESSED, KeyEvent.KEY_RELEASED))
            Event.fireEvent(focused == null ? stage.getScene() : focused, new KeyEvent(type, "", "", key, false, false, false, false));
    }

    private static void photograph(String name, String title) throws Exception {
        waitFor(() -> onFxGet(() -> stage(title)) != null);
        Thread.sleep(300);
        save(onFxGet(() -> stage(title).getScene().snapshot(null)), name);
    }

    private static void save(WritableImage image, String name) throws IOException {
        int width = (int) image.getWidth(), height = (int) image.getHeight();
        BufferedImage out = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                out.setRGB(x, y, image.getPixelReader().getArgb(x, y));
        ImageIO.write(out, "png", folder.resolve(name + ".png").toFile());
    }
}
