package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

import javafx.application.Platform;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuItem;
import javafx.scene.control.SeparatorMenuItem;
import javafx.stage.DirectoryChooser;
import javafx.stage.FileChooser;

import qupath.ext.cytolite.Doctor;
import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.LocalProcess;
import qupath.ext.cytolite.Outcome;
import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Run;
import qupath.ext.cytolite.Stop;
import qupath.lib.gui.QuPathGUI;

/** The menu Extensions > cytolite: what is always there, and what the package that was found offers. */
final class Entries {
    private final QuPathGUI gui;
    private final Preferences preferences;
    private final Menu menu;
    private File lastResult;

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
        List<Doctor.Command> offered = preferences.menu();
        if (!offered.isEmpty())
            items.add(new SeparatorMenuItem());
        for (Doctor.Command command : offered)
            items.add(entry(command.title(), false, () -> start(command)));
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
        preferences.rememberMenu(doctor.menu());
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
        OptionsWindow window = new OptionsWindow(gui, preferences, models);
        window.show(request -> work(run -> run.findNuclei(Home.python(), request)));
        if (models == null)
            ask(window);
    }

    /** The list of models, and what the menu offers, may be new since the last time. */
    private void ask(OptionsWindow window) {
        background(() -> {
            try {
                Doctor doctor = Doctor.ask(Home.python());
                Platform.runLater(() -> {
                    preferences.rememberMenu(doctor.menu());
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
        if (file != null) {
            lastResult = file.getAbsoluteFile().getParentFile();
            work(run -> run.importResult(file, preferences.request()));
        }
    }

    /** Work on the open image in a thread of its own, with a window. */
    private void work(Consumer<Run> what) {
        WindowScreen screen = new WindowScreen(gui) {
            @Override
            public void done(Outcome outcome) {
                super.done(outcome);
                if (outcome.folder() != null)
                    lastResult = outcome.folder();
            }

            @Override
            public void measured(Request request, double mm2PerSecond) {
                preferences.rememberSpeed(request, mm2PerSecond);
            }
        };
        Run run = new Run(gui.getImageData(), gui.getProject(), screen);
        background(() -> what.accept(run));
    }

    /** Run a command that the package offers, after asking for what it needs. */
    private void start(Doctor.Command command) {
        if (Home.python() == null)
            throw new Stop("It is not known which Python has cytolite: choose it in Set up...");
        List<String> words = new ArrayList<>(List.of(Home.python(), "-m", "cytolite"));
        for (String argument : command.arguments()) {
            String word = fill(argument);
            if (word == null)
                return;
            words.add(word);
        }
        WindowScreen screen = new WindowScreen(gui);
        background(() -> {
            try {
                screen.begin(command.title());
                new LocalProcess(words, screen).run();
                screen.tell(command.title() + ": done.");
            } catch (Stop stop) {
                screen.fail(stop);
            } finally {
                screen.end();
            }
        });
    }

    private String fill(String argument) {
        return switch (argument) {
            case "{result}" -> path(lastResult != null ? lastResult : folder("Folder of a result of cytolite"));
            case "{folder}" -> path(folder("New folder"));
            case "{labels}" -> {
                FileChooser chooser = new FileChooser();
                chooser.setTitle("Labels (GeoJSON)");
                yield path(chooser.showOpenDialog(gui.getStage()));
            }
            default -> argument;
        };
    }

    private File folder(String title) {
        DirectoryChooser chooser = new DirectoryChooser();
        chooser.setTitle(title);
        return chooser.showDialog(gui.getStage());
    }

    private static String path(File file) {
        return file == null ? null : file.getPath();
    }

    private static void background(Runnable work) {
        Thread thread = new Thread(work, "cytolite");
        thread.setDaemon(true);
        thread.start();
    }
}
