package javafx.scene.control

import javafx.event.EventHandler
import javafx.scene.Node
import javafx.stage.Modality
import javafx.stage.Stage

class ButtonType {
    static final ButtonType CANCEL = new ButtonType()
}

class DialogEvent { }

class DialogPane {
    Node content
    List<ButtonType> buttonTypes = []
}

class Label extends Node {
    String text
    final List<String> history = []
    Label(String text) { setText(text) }
    void setText(String text) {
        this.text = text
        history << text
    }
}

class ProgressBar extends Node {
    static final double INDETERMINATE_PROGRESS = -1d
    double progress, prefWidth
    final List<Double> history = []
    ProgressBar(double progress) { setProgress(progress) }
    void setProgress(double progress) {
        this.progress = progress
        history << progress
    }
}

class Dialog<R> {
    static volatile Dialog last
    String title
    DialogPane dialogPane = new DialogPane()
    EventHandler<DialogEvent> onHidden
    volatile boolean showing = false
    void initOwner(Stage owner) { }
    void initModality(Modality modality) { }
    void show() {
        showing = true
        last = this
    }
    void close() {
        if (showing) {
            showing = false
            onHidden?.handle(new DialogEvent())
        }
    }
}
