package qupath.fx.dialogs

import javafx.stage.FileChooser

/** What was shown, and what the user answers. */
class Dialogs {
    static final List<Map> SHOWN = Collections.synchronizedList([])
    static boolean answer = true
    static boolean showYesNoDialog(String title, String text) {
        SHOWN << [kind: 'question', title: title, text: text]
        answer
    }
    static void showErrorMessage(String title, String text) { SHOWN << [kind: 'error', title: title, text: text] }
    static void showInfoNotification(String title, String text) { SHOWN << [kind: 'info', title: title, text: text] }
    static void showWarningNotification(String title, String text) { SHOWN << [kind: 'warning', title: title, text: text] }
}

class FileChoosers {
    static File chosen
    static File promptForFile(String title, FileChooser.ExtensionFilter... filters) { chosen }
    static FileChooser.ExtensionFilter createExtensionFilter(String description, String... extensions) { new FileChooser.ExtensionFilter() }
}
