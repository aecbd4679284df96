package qupath.ext.cytolite.gui;

import javafx.event.Event;
import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.ProgressBar;
import javafx.scene.control.TextArea;
import javafx.scene.control.TitledPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

/**
 * A bar, the time left, the log and Cancel, beside which QuPath can be used. No key presses anything here: whoever uses
 * QuPath holds the space bar to pan.
 */
final class ProgressWindow {
    /** What is younger may be cancelled without a question. */
    static final double ASK_AFTER_S = 60;
    private static final int MAX_LOG = 200_000;
    private final Stage stage = new Stage();
    private final Label label = new Label("Starting");
    private final ProgressBar bar = new ProgressBar(ProgressBar.INDETERMINATE_PROGRESS);
    private final TextArea log = new TextArea();
    private final Button cancel = new Button("Cancel");
    private final HBox question = new HBox(8);
    private final Runnable onCancel;
    private final double askAfterS;
    private final long began = System.nanoTime();

    ProgressWindow(Window owner, Runnable onCancel, double askAfterS) {
        this.onCancel = onCancel;
        this.askAfterS = askAfterS;
        bar.setMaxWidth(Double.MAX_VALUE);
        label.setWrapText(true);
        log.setEditable(false);
        log.setPrefRowCount(10);
        TitledPane details = new TitledPane("Log", log);
        details.setExpanded(false);
        details.setAnimated(false);
        details.expandedProperty().addListener(it -> stage.sizeToScene());
        cancel.setOnAction(event -> mayCancel());
        Button yes = new Button("Yes, cancel");
        Button no = new Button("No, go on");
        yes.setOnAction(event -> cancelNow());
        no.setOnAction(event -> ask(false));
        question.getChildren().setAll(new Label("Cancel? What was found so far is lost."), yes, no);
        question.setAlignment(Pos.CENTER_RIGHT);
        HBox buttons = new HBox(8, question, cancel);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        ask(false);
        for (Button each : new Button[] {cancel, yes, no})
            each.setFocusTraversable(false);
        details.setFocusTraversable(false);
        VBox box = new VBox(10, label, bar, buttons, details);
        box.setPadding(new Insets(14));
        box.setPrefWidth(520);
        VBox.setVgrow(details, Priority.ALWAYS);
        stage.initOwner(owner);
        stage.setTitle("cytolite");
        stage.setScene(new Scene(box));
        stage.setOnCloseRequest(this::closing);
        box.requestFocus();
    }

    void show() {
        stage.show();
    }

    void close() {
        stage.close();
    }

    void update(String text, double share) {
        label.setText(text);
        bar.setProgress(share);
    }

    void log(String line) {
        if (log.getLength() > MAX_LOG)
            log.deleteText(0, MAX_LOG / 2);
        log.appendText(line + "\n");
    }

    /** The window's own cross is Cancel. */
    private void closing(Event event) {
        event.consume();
        mayCancel();
    }

    private void mayCancel() {
        if ((System.nanoTime() - began) / 1e9 < askAfterS)
            cancelNow();
        else
            ask(true);
    }

    private void ask(boolean open) {
        question.setVisible(open);
        question.setManaged(open);
        cancel.setVisible(!open);
        cancel.setManaged(!open);
    }

    private void cancelNow() {
        ask(false);
        cancel.setDisable(true);
        label.setText("Stopping");
        onCancel.run();
    }
}
