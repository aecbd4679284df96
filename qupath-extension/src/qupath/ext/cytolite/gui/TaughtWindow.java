package qupath.ext.cytolite.gui;

import java.util.ArrayList;
import java.util.List;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

import qupath.ext.cytolite.Outcome;
import qupath.ext.cytolite.Taught;

/** What a taught model is worth, on nuclei that were held out, and what comes next. */
final class TaughtWindow {
    private final Stage stage = new Stage();

    TaughtWindow(Window owner, Taught taught, List<String> warnings, Runnable onName) {
        Label title = new Label("'" + taught.model().getName() + "' was taught");
        title.setStyle("-fx-font-size: 1.3em; -fx-font-weight: bold;");
        VBox box = new VBox(10, title, new Label("F1 of labelled nuclei that were held out, by " + taught.heldOut() + ":"), table(taught));
        if (!taught.curve().isEmpty())
            box.getChildren().add(wrapped("Mean F1 with fewer labels of each type: " + String.join(", ", taught.curve()) + "."));
        List<String> all = new ArrayList<>(taught.doubts());
        all.addAll(warnings);
        for (String each : all) {
            Label label = wrapped("\u26a0 " + each);
            label.setStyle("-fx-text-fill: #a05000;");
            box.getChildren().add(label);
        }
        box.getChildren().add(wrapped("More is in CARD.md of " + taught.model() + ". " + Outcome.NOTICE));
        Button name = new Button("Name the cells again");
        name.setOnAction(event -> {
            stage.close();
            onName.run();
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(8, name, close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        box.getChildren().add(buttons);
        box.setPadding(new Insets(14));
        stage.initOwner(owner);
        stage.setTitle("cytolite: taught");
        stage.setScene(new Scene(box));
    }

    void show() {
        stage.show();
    }

    private static GridPane table(Taught taught) {
        GridPane grid = new GridPane();
        grid.setHgap(18);
        grid.setVgap(4);
        grid.addRow(0, bold("type"), bold("labels"), bold("F1 (95% interval)"), bold("of the model before"));
        List<Taught.Row> rows = new ArrayList<>(taught.types());
        rows.add(taught.mean());
        for (int i = 0; i < rows.size(); i++) {
            Taught.Row row = rows.get(i);
            grid.addRow(i + 1, new Label(row.name()), new Label(Integer.toString(row.labels())), new Label(row.score()), new Label(row.before()));
        }
        return grid;
    }

    private static Label bold(String text) {
        Label label = new Label(text);
        label.setStyle("-fx-font-weight: bold;");
        return label;
    }

    private static Label wrapped(String text) {
        Label label = new Label(text);
        label.setWrapText(true);
        label.setMaxWidth(560);
        return label;
    }
}
