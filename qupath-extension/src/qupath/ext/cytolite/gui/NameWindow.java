package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.List;
import java.util.function.Consumer;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;

import qupath.lib.gui.QuPathGUI;

/** Asks which model shall name the cells that are there. */
final class NameWindow {
    private final Stage stage = new Stage();

    /**
     * @param found  the model that found the nuclei, which gives them their first names back
     * @param taught folders of others, the likeliest first
     */
    NameWindow(QuPathGUI gui, String found, List<String> taught, Consumer<String> onName) {
        ComboBox<String> model = new ComboBox<>();
        ModelNames.show(model);
        model.getItems().setAll(taught);
        model.getItems().add(found);
        model.getSelectionModel().select(0);
        Button name = new Button("Name the cells again");
        name.setOnAction(event -> {
            stage.close();
            onName.accept(model.getValue());
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(8, name, close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        HBox row = new HBox(8, new Label("Model"), model);
        row.setAlignment(Pos.CENTER_LEFT);
        Label rule = new Label("Cells stay where they are and get new classes, probabilities and counts. A cell whose class you changed keeps it. "
            + "'" + new File(found).getName() + "' found these nuclei, and gives them their first names back.");
        rule.setWrapText(true);
        rule.setMaxWidth(440);
        VBox box = new VBox(12, row, rule, buttons);
        box.setPadding(new Insets(14));
        stage.initOwner(gui.getStage());
        stage.setTitle("cytolite: name the cells again");
        stage.setScene(new Scene(box));
    }

    void show() {
        stage.show();
    }
}
