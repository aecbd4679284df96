package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

import javafx.application.Platform;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuItem;
import javafx.scene.control.SeparatorMenuItem;
import javafx.stage.DirectoryChooser;
import javafx.stage.FileChooser;

import qupath.ext.cytolite.Density;
import qupath.ext.cytolite.Doctor;
import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.KeptResults;
import qupath.ext.cytolite.Labels;
import qupath.ext.cytolite.LocalProcess;
import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Run;
import qupath.ext.cytolite.Stop;
import qupath.ext.cytolite.Taught;
import qupath.lib.gui.QuPathGUI;

/** The menu Extensions > cytolite: what is always there, and what the package that was found offers. */
final class Entries {
    private final QuPathGUI gui;
    private final Preferences preferences;
    private final Menu menu;

    Entries(QuPathGUI gui, Preferences preferences) {
        this.gui = gui;
        this.preferences = preferences;
        this.menu = gui.getMenu("Extensions>cytolite", true);
    }

    void install() {
        List<MenuItem> items = new ArrayList<>(List.of(
            entry("Find nuclei...", true, this::findNuclei),
            entry("Import a result...", true, this::importResult),
            entry("Measure regions again", true, () -> work(run -> run.measureAgain()))));
        Map<String, List<MenuItem>> offered = new LinkedHashMap<>();
        offered.put("teach", List.of(entry("Export labels for teaching", true, this::exportLabels), entry("Teach from labelled cells...", true, this::teach)));
        offered.put("apply", List.of(entry("Name the cells again...", true, this::nameAgain)));
        offered.put("spatial", List.of(entry("Density map overlay...", true, this::densityMap)));
        offered.put("view", List.of(entry("Open in the browser viewer", false, this::view)));
        offered.keySet().retainAll(preferences.verbs());
        if (!offered.isEmpty())
            items.add(new SeparatorMenuItem());
        offered.values().forEach(items::addAll);
        items.add(new SeparatorMenuItem());
        items.add(entry("Set up...", false, () -> new SetupWindow(gui.getStage(), this::learn).show()));
        items.add(entry("Help", false, () -> HelpWindow.show(gui.getStage())));
        menu.getItems().setAll(items);
    }

    private MenuItem entry(String title, boolean needsImage, Runnable action) {
        MenuItem item = new MenuItem(title);
        item.setOnAction(event -> safely(action));
        if (needsImage)
            item.disableProperty().bind(gui.imageDataProperty().isNull());
        return item;
    }

    /** What can be told before any work begins is told in a sentence too. */
    private void safely(Runnable action) {
        try {
            action.run();
        } catch (Stop stop) {
            MessageWindow.show(gui.getStage(), stop.getMessage(), "");
        }
    }

    /** Take over what a Python that works has said of itself. */
    private void learn(Doctor doctor) {
        Home.rememberPython(doctor.python());
        preferences.rememberVerbs(doctor.verbs());
        install();
    }

    private void findNuclei() {
        if (Run.isAtWorkOn(gui.getImageData()))
            throw new Stop("cytolite is at work on this image already; wait for it, or cancel it.");
        if (Home.python() == null)
            new SetupWindow(gui.getStage(), doctor -> {
                learn(doctor);
                choose(doctor.models());
            }).show();
        else
            choose(null);
    }

    private void choose(List<String> models) {
        List<String> all = new ArrayList<>(models == null ? List.of() : models);
        all.addAll(ownModels());
        OptionsWindow window = new OptionsWindow(gui, preferences, all);
        window.show(request -> work(run -> run.findNuclei(Home.python(), request)));
        if (models == null)
            ask(window);
    }

    /** The list of models, and what the package can do, may be new since the last time. */
    private void ask(OptionsWindow window) {
        background(() -> {
            try {
                Doctor doctor = Doctor.ask(Home.python());
                Platform.runLater(() -> {
                    preferences.rememberVerbs(doctor.verbs());
                    install();
                    window.know(doctor);
                });
            } catch (Stop stop) {
                Platform.runLater(() -> window.warn(stop.getMessage()));
            }
        });
    }

    private void importResult() {
        FileChooser chooser = new FileChooser();
        chooser.setTitle("Result of cytolite");
        chooser.getExtensionFilters().add(new FileChooser.ExtensionFilter("cells.geojson.gz", "*.gz", "*.geojson"));
        File file = chooser.showOpenDialog(gui.getStage());
        if (file != null)
            work(run -> run.importResult(file, preferences.request()));
    }

    private void exportLabels() {
        File file = Run.exportLabels(gui.getImageData());
        MessageWindow.show(gui.getStage(), "Labels of this image: " + String.join("; ", Labels.of(gui.getImageData()).lines())
            + ". They are in " + file + ", and are used when you teach on this or another slide of the project.", "");
    }

    private void teach() {
        new TeachWindow(gui, (others, model) -> work(run -> run.teach(Home.python(), others, model))).show();
    }

    private void nameAgain() {
        List<File> results = KeptResults.of(gui.getImageData());
        if (results.isEmpty())
            throw new Stop(KeptResults.NONE);
        new NameWindow(gui, KeptResults.modelThatFound(results.get(0)), ownModels(), this::nameAgain).show();
    }

    private void nameAgain(String model) {
        work(run -> run.nameAgain(Home.python(), model));
    }

    /** Folders of models, those that were used last first. */
    private List<String> ownModels() {
        Set<String> all = new LinkedHashSet<>(preferences.modelFolders());
        all.addAll(Home.taughtModels());
        return List.copyOf(all);
    }

    private void densityMap() {
        File result = resultOfImage();
        if (result == null)
            return;
        if (Density.fileOf(result).isFile())
            new DensityWindow(gui, Density.open(result)).show();
        else
            start("Measuring densities", List.of("spatial", result.getPath()), () -> new DensityWindow(gui, Density.open(result)).show());
    }

    private void view() {
        File result = resultOfImage();
        if (result != null)
            start("The viewer runs until you press Cancel", List.of("view", result.getPath()), () -> { });
    }

    /** The last one of the open image, else one that the user names; null if none is named. */
    private File resultOfImage() {
        List<File> results = KeptResults.of(gui.getImageData());
        if (!results.isEmpty())
            return results.get(0);
        DirectoryChooser chooser = new DirectoryChooser();
        chooser.setTitle("Folder of a result of cytolite");
        return chooser.showDialog(gui.getStage());
    }

    /** Work on the open image in a thread of its own, with a window. */
    private void work(Consumer<Run> what) {
        WindowScreen screen = new WindowScreen(gui) {
            @Override
            public void measured(Request request, double mm2PerSecond) {
                preferences.rememberSpeed(request, mm2PerSecond);
            }

            @Override
            public void taught(Taught taught) {
                preferences.rememberModel(taught.model().getPath());
                Platform.runLater(() -> new TaughtWindow(gui.getStage(), taught, warnings(List.of()), () -> nameAgain(taught.model().getPath())).show());
            }
        };
        Run run = new Run(gui.getImageData(), gui.getProject(), screen);
        background(() -> what.accept(run));
    }

    /** Run a command of the package, and go on if it ends well. */
    private void start(String title, List<String> words, Runnable next) {
        List<String> command = Run.command(Home.python(), words);
        WindowScreen screen = new WindowScreen(gui);
        background(() -> {
            try {
                screen.begin(title);
                new LocalProcess(command, screen).run();
                Platform.runLater(() -> safely(next));
            } catch (Stop stop) {
                screen.fail(stop);
            } finally {
                screen.end();
            }
        });
    }

    private static void background(Runnable work) {
        Thread thread = new Thread(work, "cytolite");
        thread.setDaemon(true);
        thread.start();
    }
}
