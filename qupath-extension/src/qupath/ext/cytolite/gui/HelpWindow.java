package qupath.ext.cytolite.gui;

import javafx.geometry.Insets;
import javafx.scene.Scene;
import javafx.scene.control.TextArea;
import javafx.stage.Stage;
import javafx.stage.Window;

import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.Outcome;

/** The few things that somebody at the microscope needs to know; no browser, no network. */
final class HelpWindow {
    private static final String TEXT = String.join("\n",
        "Find nuclei: draw regions, select those that you want (else all are used), and press Run. A hole in a region stays out. A nucleus "
            + "belongs to a region if its centre is inside.",
        "",
        "Again: a second run replaces the cells that cytolite found there before, and nothing else. Cells of others, your annotations and your "
            + "list of classes stay.",
        "",
        "Counts: each region gets measurements that begin with 'cytolite:'; densities are per mm\u00b2 of tissue. Measure regions again after you "
            + "deleted or renamed cells, or changed regions; densities are then per mm\u00b2 of the region as it is drawn.",
        "",
        "Types of your own: give cells another class, or set points of a class; export labels on each slide of the project, teach on the last, "
            + "read the scores, and name the cells again.",
        "",
        "Many slides: Workflow > Create script, then Run > Run for project. Every run is a step of the workflow, with its model and its options.",
        "",
        "Import a result: a cells.geojson.gz that cytolite wrote elsewhere. Do not drag it onto the slide: QuPath's own reader needs much more memory.",
        "",
        "Look at the cells before you use the counts.");

    private HelpWindow() { }

    static void show(Window owner) {
        TextArea text = new TextArea(TEXT + "\n\n" + Outcome.NOTICE + "\n\nExtension " + CytoliteExtension.version()
            + "\nPython: " + (Home.python() == null ? "not set up" : Home.python()));
        text.setEditable(false);
        text.setWrapText(true);
        text.setPrefSize(680, 420);
        text.setPadding(new Insets(6));
        Stage stage = new Stage();
        stage.initOwner(owner);
        stage.setTitle("cytolite: help");
        stage.setScene(new Scene(text));
        stage.show();
    }
}
