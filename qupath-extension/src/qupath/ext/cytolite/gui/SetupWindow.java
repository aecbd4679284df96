package qupath.ext.cytolite.gui;

import java.io.File;
import java.util.List;
import java.util.function.Consumer;

import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;
import javafx.stage.FileChooser;
import javafx.stage.Stage;
import javafx.stage.Window;

import qupath.ext.cytolite.Doctor;
import qupath.ext.cytolite.Home;
import qupath.ext.cytolite.Stop;

/** Which Python has cytolite, and whether all is well with it. */
final class SetupWindow {
    private final Stage stage = new Stage();
    private final ComboBox<String> python = new ComboBox<>();
    private final VBox findings = new VBox(6);
    private final Button look = new Button("Look");
    private final Button use = new Button("Use this");
    private final Consumer<Doctor> onUse;
    private Doctor found;

    SetupWindow(Window owner, Consumer<Doctor> onUse) {
        this.onUse = onUse;
        python.setEditable(true);
        python.setMaxWidth(Double.MAX_VALUE);
        python.getItems().setAll(Doctor.usualPlaces());
        python.getEditor().setText(Home.python() != null ? Home.python() : python.getItems().isEmpty() ? "" : python.getItems().get(0));
        HBox.setHgrow(python, Priority.ALWAYS);
        Button other = new Button("Other...");
        other.setOnAction(event -> chooseFile());
        look.setOnAction(event -> look());
        use.setDisable(true);
        use.setOnAction(event -> {
            stage.close();
            onUse.accept(found);
        });
        HBox buttons = new HBox(8, look, use);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        VBox box = new VBox(10, new Label("The Python that has cytolite:"), new HBox(8, python, other), findings, buttons);
        box.setPadding(new Insets(14));
        box.setPrefWidth(640);
        stage.initOwner(owner);
        stage.setTitle("cytolite: set up");
        stage.setScene(new Scene(box));
    }

    void show() {
        stage.show();
        if (python.getEditor().getText().isEmpty())
            tell("No cytolite was found in the usual places. Open a terminal, and run this line, with the folder of your copy of cytolite; then choose the Python in the new folder.",
                install());
        else
            look();
    }

    /** How to install the package, for this system. */
    static String install() {
        return File.separatorChar == '\\'
            ? "py -m venv %USERPROFILE%\\cytolite && %USERPROFILE%\\cytolite\\Scripts\\pip install path-to-cytolite"
            : "python3 -m venv ~/cytolite && ~/cytolite/bin/pip install path-to-cytolite";
    }

    private void chooseFile() {
        FileChooser chooser = new FileChooser();
        chooser.setTitle("Python");
        File file = chooser.showOpenDialog(stage);
        if (file != null) {
            python.getEditor().setText(file.getPath());
            look();
        }
    }

    private void look() {
        String path = python.getEditor().getText().trim();
        look.setDisable(true);
        use.setDisable(true);
        tell("Looking at " + path + " ...", "");
        Thread thread = new Thread(() -> {
            try {
                Doctor doctor = Doctor.ask(path);
                Platform.runLater(() -> show(doctor));
            } catch (Stop stop) {
                Platform.runLater(() -> {
                    look.setDisable(false);
                    tell(stop.getMessage(), install());
                });
            }
        }, "cytolite");
        thread.setDaemon(true);
        thread.start();
    }

    void show(Doctor doctor) {
        found = doctor;
        look.setDisable(false);
        use.setDisable(!doctor.works());
        tell("cytolite " + doctor.version() + (doctor.works() ? ": all that is essential works." : ": not all that is essential works."), "");
        String mine = CytoliteExtension.version();
        if (!mine.equals(doctor.version()))
            add("\u26a0 This extension is " + mine + ", the package is " + doctor.version() + ": let the package put its own in place, and start QuPath again.",
                "\"" + doctor.python() + "\" -m cytolite qupath install");
        for (Doctor.Finding each : doctor.findings())
            if (!each.state().equals("good"))
                add((each.state().equals("bad") ? "\u2716 " : "\u26a0 ") + each.what() + ": " + each.found(), each.mend());
        stage.sizeToScene();
    }

    private void tell(String text, String line) {
        findings.getChildren().clear();
        add(text, line);
        stage.sizeToScene();
    }

    /** A sentence, and a line to run with a button that copies it. */
    private void add(String text, String line) {
        Label label = new Label(text);
        label.setWrapText(true);
        findings.getChildren().add(label);
        if (line.isEmpty())
            return;
        String command = line.endsWith(".") ? line.substring(0, line.length() - 1) : line;
        TextField field = new TextField(command);
        field.setEditable(false);
        Button copy = new Button("Copy");
        copy.setOnAction(event -> MessageWindow.copy(command));
        HBox.setHgrow(field, Priority.ALWAYS);
        findings.getChildren().add(new HBox(8, field, copy));
    }

    List<String> texts() {
        return findings.getChildren().stream().filter(it -> it instanceof Label).map(it -> ((Label) it).getText()).toList();
    }
}
