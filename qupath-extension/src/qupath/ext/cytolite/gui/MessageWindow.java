package qupath.ext.cytolite.gui;

import java.io.File;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.input.Clipboard;
import javafx.scene.input.ClipboardContent;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

import qupath.ext.cytolite.Home;

/** What went wrong, or is done, in a sentence, and a report to send to whoever may help. */
final class MessageWindow {
    private MessageWindow() { }

    static void show(Window owner, String sentence, String log) {
        Stage stage = new Stage();
        Label text = new Label(sentence);
        text.setWrapText(true);
        text.setMaxWidth(520);
        Button copy = new Button("Copy report");
        copy.setOnAction(event -> {
            copy(report(sentence, log));
            copy.setText("Copied");
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        HBox buttons = new HBox(8, copy, close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        VBox box = new VBox(14, text, buttons);
        box.setPadding(new Insets(14));
        stage.initOwner(owner);
        stage.setTitle("cytolite");
        stage.setScene(new Scene(box));
        stage.show();
    }

    /** The user's own folder is left out of it: its name is a person's. */
    static String report(String sentence, String log) {
        String text = String.join("\n", sentence, "",
            "extension " + CytoliteExtension.version() + ", Java " + System.getProperty("java.version") + ", "
                + System.getProperty("os.name") + " " + System.getProperty("os.arch"),
            "Python: " + Home.python(), "", log);
        String home = System.getProperty("user.home");
        return home.length() > 1 ? text.replace(home + File.separator, "~" + File.separator) : text;
    }

    static void copy(String text) {
        ClipboardContent content = new ClipboardContent();
        content.putString(text);
        Clipboard.getSystemClipboard().setContent(content);
    }
}
