package qupath.ext.cytolite.gui;

import java.util.List;
import java.util.Locale;
import java.util.Map;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.layout.ColumnConstraints;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Pane;
import javafx.scene.layout.VBox;
import javafx.scene.paint.Color;
import javafx.scene.shape.Rectangle;
import javafx.stage.Stage;

import qupath.ext.cytolite.Outcome;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.objects.classes.PathClass;

/** How many nuclei of which type, as bars, with what there is to warn of. */
final class ResultWindow {
    private static final double WIDEST = 260;
    private final Stage stage = new Stage();
    private final QuPathGUI gui;

    ResultWindow(QuPathGUI gui, Outcome outcome, List<String> warnings) {
        this.gui = gui;
        Label title = new Label(String.format(Locale.US, "%,d nuclei in %s", outcome.nuclei(), outcome.where()));
        title.setStyle("-fx-font-size: 1.3em; -fx-font-weight: bold;");
        VBox box = new VBox(10, title, new Label(details(outcome)), bars(outcome.counts()));
        for (String warning : warnings) {
            Label label = wrapped("\u26a0 " + warning);
            label.setStyle("-fx-text-fill: #a05000;");
            box.getChildren().add(label);
        }
        if (outcome.folder() != null)
            box.getChildren().add(wrapped("Tables: " + outcome.folder()));
        Label notice = wrapped(Outcome.NOTICE);
        notice.setStyle("-fx-font-style: italic;");
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        box.getChildren().addAll(notice, buttons);
        box.setPadding(new Insets(14));
        stage.initOwner(gui.getStage());
        stage.setTitle("cytolite: result");
        stage.setScene(new Scene(box));
    }

    void show() {
        stage.show();
    }

    private static String details(Outcome outcome) {
        String time = String.format(Locale.US, "%.1f s", outcome.seconds());
        return Double.isNaN(outcome.tissueMm2()) || outcome.tissueMm2() <= 0 ? time
            : String.format(Locale.US, "%.2f mm\u00b2, %,.0f per mm\u00b2, %s", outcome.tissueMm2(), outcome.nuclei() / outcome.tissueMm2(), time);
    }

    private Pane bars(Map<String, Integer> counts) {
        GridPane grid = new GridPane();
        grid.setHgap(10);
        grid.setVgap(4);
        grid.getColumnConstraints().setAll(new ColumnConstraints(), new ColumnConstraints(WIDEST), new ColumnConstraints());
        int most = counts.values().stream().mapToInt(Integer::intValue).max().orElse(1);
        int all = Math.max(1, counts.values().stream().mapToInt(Integer::intValue).sum());
        List<Map.Entry<String, Integer>> sorted = counts.entrySet().stream().sorted(Map.Entry.<String, Integer>comparingByValue().reversed()).toList();
        for (int row = 0; row < sorted.size(); row++) {
            int n = sorted.get(row).getValue();
            Rectangle bar = new Rectangle(Math.max(1, WIDEST * n / most), 14, colour(sorted.get(row).getKey()));
            grid.addRow(row, new Label(sorted.get(row).getKey()), bar, new Label(String.format(Locale.US, "%,d  (%.1f %%)", n, 100.0 * n / all)));
        }
        return grid;
    }

    /** That of the user's list of classes. */
    private Color colour(String type) {
        for (PathClass known : gui.getAvailablePathClasses())
            if (type.equals(known.toString()) && known.getColor() != null)
                return Color.rgb(known.getColor() >> 16 & 255, known.getColor() >> 8 & 255, known.getColor() & 255);
        return Color.GRAY;
    }

    private static Label wrapped(String text) {
        Label label = new Label(text);
        label.setWrapText(true);
        label.setMaxWidth(560);
        return label;
    }
}
