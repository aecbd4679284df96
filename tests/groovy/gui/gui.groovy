// Stand-ins for what cytolite's scripts call of QuPath's window.
package qupath.lib.gui

import javafx.stage.Stage
import qupath.lib.images.ImageData
import qupath.lib.objects.classes.PathClass

class QuPathGUI {
    static QuPathGUI instance
    ImageData<?> imageData
    List<PathClass> availablePathClasses = []
    Map<String, Runnable> commands = [:]
    Stage stage = new Stage()

    def installCommand(String path, Runnable command) { commands[path] = command }

    Object runScript(File file, String script) { new GroovyShell(getClass().classLoader).evaluate(file) }
}
