package qupath.ext.cytolite.gui;

import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;

import javafx.application.Platform;
import javafx.collections.ObservableList;

import qupath.ext.cytolite.Outcome;
import qupath.ext.cytolite.Screen;
import qupath.ext.cytolite.Stop;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.objects.classes.PathClass;

/** A run that the user watches: a window at once, its log, and at the end the counts or what went wrong. */
class WindowScreen extends Screen {
    private final QuPathGUI gui;
    private final ProgressWindow window;
    private final StringBuffer log = new StringBuffer();

    /** Also for a script, which has a thread of its own; windows are made on JavaFX's alone. */
    static WindowScreen open(QuPathGUI gui) {
        if (Platform.isFxApplicationThread())
            return new WindowScreen(gui);
        CompletableFuture<WindowScreen> made = new CompletableFuture<>();
        Platform.runLater(() -> made.complete(new WindowScreen(gui)));
        return made.join();
    }

    WindowScreen(QuPathGUI gui) {
        this.gui = gui;
        this.window = new ProgressWindow(gui.getStage(), () -> cancelled = true, ProgressWindow.ASK_AFTER_S);
        onScreen(window::show);
    }

    /** At once where this is JavaFX's own thread, so that a second click finds the window. */
    private static void onScreen(Runnable work) {
        if (Platform.isFxApplicationThread())
            work.run();
        else
            Platform.runLater(work);
    }

    @Override
    public void begin(String text) {
        super.begin(text);
        onScreen(() -> window.update(text, -1));
    }

    @Override
    public void show(String text, double share) {
        onScreen(() -> window.update(text, share));
    }

    @Override
    public void end() {
        onScreen(window::close);
    }

    @Override
    public void log(String line) {
        super.log(line);
        log.append(line).append('\n');
        onScreen(() -> window.log(line));
    }

    @Override
    public void tell(String message) {
        log(message);
        onScreen(() -> MessageWindow.show(gui.getStage(), message, log.toString()));
    }

    @Override
    public void warn(String message) {
        super.warn(message);
        log("Warning: " + message);
    }

    @Override
    public void done(Outcome outcome) {
        log(outcome.sentence());
        List<String> all = warnings(outcome.warnings());
        onScreen(() -> new ResultWindow(gui, outcome, all).show());
    }

    @Override
    public void fail(Stop stop) {
        super.log(stop.getMessage());
        if (!stop.isCancelled())
            onScreen(() -> MessageWindow.show(gui.getStage(), stop.getMessage(), log.toString()));
    }

    @Override
    public void addClasses(Collection<PathClass> classes) {
        onScreen(() -> {
            ObservableList<PathClass> known = gui.getAvailablePathClasses();
            classes.stream().filter(each -> !known.contains(each)).forEach(known::add);
        });
    }
}
