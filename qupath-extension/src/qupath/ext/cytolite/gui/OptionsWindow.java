package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Node;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.CheckBox;
import javafx.scene.control.ChoiceBox;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.Spinner;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.DirectoryChooser;
import javafx.stage.Stage;

import qupath.ext.cytolite.Doctor;
import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Request.Measured;
import qupath.ext.cytolite.Run;
import qupath.ext.cytolite.Screen;
import qupath.ext.cytolite.Stop;
import qupath.lib.gui.QuPathGUI;

/** What is asked of a run, as it was the last time, with what it will take. */
final class OptionsWindow {
    private static final String OWN_CHOICE = "cytolite's default";
    private final Stage stage = new Stage();
    private final QuPathGUI gui;
    private final Preferences preferences;
    private final ComboBox<String> model = new ComboBox<>();
    private final ChoiceBox<String> device = choice("cpu", "cuda");
    private final Spinner<Integer> threads = new Spinner<>(0, 256, 0);
    private final ChoiceBox<String> tissue = choice("tissue that is found", "everything, glass too");
    private final ChoiceBox<String> tta = choice("1: fast", "4: rotated, slower", "8: rotated and mirrored, slowest");
    private final ChoiceBox<String> output = choice("detections", "cells");
    private final ChoiceBox<String> area = choice("selected regions, else all", "the whole image");
    private final Map<Measured, CheckBox> measured = new EnumMap<>(Measured.class);
    private final Label estimate = new Label();
    private final Label warning = new Label();
    private final Button run = new Button("Run");

    OptionsWindow(QuPathGUI gui, Preferences preferences, List<String> models) {
        this.gui = gui;
        this.preferences = preferences;
        Request last = preferences.request();
        model.getItems().setAll(OWN_CHOICE);
        model.getItems().addAll(models);
        ModelNames.show(model);
        if (last.model() != null && !model.getItems().contains(last.model()))
            model.getItems().add(last.model());
        model.setValue(last.model() == null ? OWN_CHOICE : last.model());
        model.setMaxWidth(Double.MAX_VALUE);
        Button folder = new Button("Folder...");
        folder.setOnAction(event -> chooseFolder());
        device.setValue(last.device());
        threads.getValueFactory().setValue(last.threads() == null ? 0 : last.threads());
        tissue.getSelectionModel().select(last.allTissue() ? 1 : 0);
        tta.getSelectionModel().select(last.tta() == 1 ? 0 : last.tta() == 4 ? 1 : 2);
        output.getSelectionModel().select(last.asCells() ? 1 : 0);
        area.getSelectionModel().select(last.wholeImage() ? 1 : 0);
        HBox groups = new HBox(10);
        for (Measured group : Measured.values()) {
            measured.put(group, new CheckBox(group.title));
            measured.get(group).setSelected(last.measurements().contains(group));
            groups.getChildren().add(measured.get(group));
        }
        GridPane grid = new GridPane();
        grid.setHgap(10);
        grid.setVgap(8);
        grid.addRow(0, new Label("Where"), area);
        grid.addRow(1, new Label("Model"), row(model, folder));
        grid.addRow(2, new Label("Each tile is shown"), tta);
        grid.addRow(3, new Label("Look at"), tissue);
        grid.addRow(4, new Label("Device"), row(device, new Label("Threads (0: one per core)"), threads));
        grid.addRow(5, new Label("QuPath gets"), output);
        grid.addRow(6, new Label("Measurements"), groups);
        threads.setPrefWidth(80);
        estimate.setStyle("-fx-font-weight: bold;");
        warning.setStyle("-fx-text-fill: #a05000;");
        warning.setWrapText(true);
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(8, run, close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        VBox box = new VBox(12, grid, estimate, warning, buttons);
        box.setPadding(new Insets(14));
        box.setPrefWidth(640);
        for (ChoiceBox<String> each : List.of(device, tissue, tta, output, area))
            each.valueProperty().addListener(it -> estimate());
        model.valueProperty().addListener(it -> estimate());
        threads.valueProperty().addListener(it -> estimate());
        stage.focusedProperty().addListener(it -> estimate());  // regions may have been drawn or selected meanwhile
        stage.initOwner(gui.getStage());
        stage.setTitle("cytolite: find nuclei");
        stage.setScene(new Scene(box));
    }

    void show(Consumer<Request> onRun) {
        run.setOnAction(event -> {
            Request request = request();
            preferences.remember(request);
            stage.close();
            onRun.accept(request);
        });
        estimate();
        stage.show();
    }

    /** What the package says of itself, once it has answered. */
    void know(Doctor doctor) {
        for (String each : doctor.models())
            if (!model.getItems().contains(each))
                model.getItems().add(1, each);
        String mine = CytoliteExtension.version();
        if (!doctor.version().equals(mine))
            warn("This extension is " + mine + ", the package is " + doctor.version() + "; Set up... says how to make them one.");
    }

    void warn(String text) {
        warning.setText(text);
        stage.sizeToScene();
    }

    Request request() {
        Set<Measured> kept = EnumSet.noneOf(Measured.class);
        measured.forEach((group, box) -> {
            if (box.isSelected())
                kept.add(group);
        });
        int orientations = List.of(1, 4, 8).get(tta.getSelectionModel().getSelectedIndex());
        return new Request(OWN_CHOICE.equals(model.getValue()) ? null : model.getValue(), device.getValue(),
            threads.getValue() == 0 ? null : threads.getValue(), tissue.getSelectionModel().getSelectedIndex() == 1, orientations,
            output.getSelectionModel().getSelectedIndex() == 1, kept, area.getSelectionModel().getSelectedIndex() == 1);
    }

    /** How much there is to do, and how long that took the last time. */
    private void estimate() {
        String text;
        boolean possible = false;
        try {
            Request request = request();
            Run.Extent extent = Run.extent(gui.getImageData(), request);
            possible = !extent.where().isEmpty();
            text = possible ? describe(extent, preferences.speed(request))
                : "No area is annotated: draw a region, or choose the whole image.";
        } catch (Stop stop) {
            text = stop.getMessage();
        }
        estimate.setText(text);
        run.setDisable(!possible);
    }

    static String describe(Run.Extent extent, double mm2PerSecond) {
        if (Double.isNaN(extent.mm2()))
            return extent.where() + "; QuPath knows no pixel size, so the file has to say it";
        String size = String.format(Locale.US, "%s, %.2f mm\u00b2", extent.where(), extent.mm2());
        return Double.isNaN(mm2PerSecond) ? size + "; how long that takes is known after the first run"
            : size + "; about " + Screen.clock(extent.mm2() / mm2PerSecond) + " at most (glass is left out)";
    }

    private void chooseFolder() {
        DirectoryChooser chooser = new DirectoryChooser();
        chooser.setTitle("Folder of a model");
        File folder = chooser.showDialog(stage);
        if (folder == null)
            return;
        if (!new File(folder, "model.json").isFile()) {
            warn(folder + " holds no model.json; choose the folder of a model.");
            return;
        }
        preferences.rememberModel(folder.getPath());
        if (!model.getItems().contains(folder.getPath()))
            model.getItems().add(folder.getPath());
        model.setValue(folder.getPath());
    }

    private static HBox row(Node... parts) {
        HBox row = new HBox(8, parts);
        row.setAlignment(Pos.CENTER_LEFT);
        return row;
    }

    private static ChoiceBox<String> choice(String... values) {
        ChoiceBox<String> box = new ChoiceBox<>();
        box.getItems().setAll(values);
        box.getSelectionModel().select(0);
        return box;
    }
}
