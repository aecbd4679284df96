import groovy.transform.CompileStatic
import javafx.application.Platform
import javafx.event.EventHandler
import javafx.scene.control.ButtonType
import javafx.scene.control.Dialog
import javafx.scene.control.DialogEvent
import javafx.scene.control.Label
import javafx.scene.control.ProgressBar
import javafx.scene.layout.VBox
import javafx.stage.Modality
import qupath.fx.dialogs.Dialogs
import qupath.fx.dialogs.FileChoosers
import qupath.lib.gui.QuPathGUI
import qupath.lib.objects.classes.PathClass

/** A small window with a bar and a Cancel button, beside which QuPath can be used. */
@CompileStatic
class CytoliteWindow extends CytoliteScreen {
    private static final String TITLE = 'cytolite'
    private final QuPathGUI gui
    private Dialog<ButtonType> dialog
    private ProgressBar bar
    private Label label
    private volatile boolean ended = false

    CytoliteWindow(QuPathGUI gui) {
        this.gui = gui
    }

    @Override
    boolean ask(String question) { Dialogs.showYesNoDialog(TITLE, question) }

    @Override
    File chooseFile() {
        FileChoosers.promptForFile('Result of cytolite', FileChoosers.createExtensionFilter('cells.geojson.gz', '*.gz', '*.geojson'))
    }

    @Override
    void begin(String text) {
        super.begin(text)
        Platform.runLater { open(text) }
    }

    private void open(String text) {
        if (ended)
            return
        label = new Label(text)
        bar = new ProgressBar(ProgressBar.INDETERMINATE_PROGRESS)
        bar.setPrefWidth(420)
        dialog = new Dialog<ButtonType>()
        dialog.setTitle(TITLE)
        dialog.initOwner(gui.getStage())
        dialog.initModality(Modality.NONE)
        dialog.getDialogPane().setContent(new VBox(10, label, bar))
        dialog.getDialogPane().getButtonTypes().add(ButtonType.CANCEL)
        // The button and the window's own cross both end here.
        dialog.setOnHidden({ DialogEvent event -> if (!ended) cancelled = true } as EventHandler<DialogEvent>)
        dialog.show()
    }

    @Override
    void show(String text, double share) {
        Platform.runLater {
            label?.setText(text)
            bar?.setProgress(share)
        }
    }

    @Override
    void end() {
        ended = true
        Platform.runLater { dialog?.close() }
    }

    @Override
    void tell(String message) {
        log(message)
        Dialogs.showInfoNotification(TITLE, message)
    }

    @Override
    void warn(String message) {
        super.warn(message)
        Dialogs.showWarningNotification(TITLE, message)
    }

    @Override
    void fail(CytoliteStop stop) {
        LOG.warn(stop.message)
        if (!stop.cancelled)
            Dialogs.showErrorMessage(TITLE, stop.message)
    }

    @Override
    void addClasses(Collection<PathClass> classes) {
        Platform.runLater {
            def known = gui.getAvailablePathClasses()
            classes.each { PathClass kind -> if (!known.contains(kind)) known.add(kind) }
        }
    }
}
