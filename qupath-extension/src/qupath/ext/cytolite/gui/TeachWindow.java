package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.List;
import java.util.function.BiConsumer;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.CheckBox;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;

import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.Labels;
import qupath.ext.cytolite.Run;
import qupath.lib.gui.QuPathGUI;

/** Shows the labels that there are, and asks for the name of the model that is taught. */
final class TeachWindow {
    private final Stage stage = new Stage();
    private final TextField name = new TextField("my-model");
    private final Label about = new Label();
    private final Button teach = new Button("Teach");
    private final CheckBox withOthers = new CheckBox();
    private final List<File> others;
    private final boolean any;

    TeachWindow(QuPathGUI gui, BiConsumer<List<File>, File> onTeach) {
        Labels labels = Labels.of(gui.getImageData());
        any = !labels.isEmpty();
        others = Run.otherLabelled(gui.getImageData(), gui.getProject());
        VBox box = new VBox(10, new Label(any ? "Labels in this image:" : "There are no labels in this image: give cells another class, or draw points or areas, "
            + "and give them one (Set class)."));
        labels.lines().forEach(line -> box.getChildren().add(new Label("    " + line)));
        withOthers.setText("with the labels that were exported of " + others.size() + " other slide" + (others.size() == 1 ? "" : "s") + " of this project");
        withOthers.setSelected(true);
        if (!others.isEmpty())
            box.getChildren().add(withOthers);
        HBox.setHgrow(name, Priority.ALWAYS);
        HBox row = new HBox(8, new Label("Name of the new model"), name);
        row.setAlignment(Pos.CENTER_LEFT);
        name.textProperty().addListener(it -> look());
        teach.setOnAction(event -> {
            stage.close();
            onTeach.accept(withOthers.isSelected() ? others : List.of(), Home.model(name.getText()));
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(8, teach, close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        Label rule = new Label("Five labels of each type are needed, 50 are better, of two types at least. A nucleus in an area has the area's class. Annotations "
            + "that cytolite counted in are regions, not labels.");
        for (Label each : List.of(rule, about, (Label) box.getChildren().get(0))) {
            each.setWrapText(true);
            each.setMaxWidth(480);
        }
        box.getChildren().addAll(rule, row, about, buttons);
        box.setPadding(new Insets(14));
        look();
        stage.initOwner(gui.getStage());
        stage.setTitle("cytolite: teach");
        stage.setScene(new Scene(box));
    }

    void show() {
        stage.show();
    }

    private void look() {
        boolean good = name.getText().matches("[A-Za-z0-9][A-Za-z0-9_-]{0,60}");
        teach.setDisable(!any || !good);
        about.setText(!good ? "A name has letters, digits, - and _ alone."
            : Home.model(name.getText()).exists() ? "A model of this name is there, and will be replaced." : "It will be in " + Home.model(name.getText()));
    }
}
