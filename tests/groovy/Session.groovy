// Plays a session in QuPath from a file of JSON: opens an image with annotations, runs cytolite's scripts as the
// menu does, presses Cancel, and writes what the user would see to another file of JSON.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import javafx.application.Platform
import javafx.scene.control.Dialog
import org.locationtech.jts.io.WKTReader
import qupath.fx.dialogs.Dialogs
import qupath.fx.dialogs.FileChoosers
import qupath.lib.common.ColorTools
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.prefs.PathPrefs
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.Project
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools
import qupath.lib.roi.ROIs
import qupath.lib.scripting.QP

import java.nio.file.Paths

class Session {
    static Map plan
    static def image
    static Map named = [:]

    static void main(String[] args) {
        plan = new JsonSlurper().parse(new File(args[0])) as Map
        image = plan.image ? SessionImage.open(plan.image as Map) : null
        QP.currentImageData = image
        if (plan.project)
            QP.project = [getPath: { Paths.get(plan.project as String) }] as Project
        if (plan.window) {
            QuPathGUI.instance = new QuPathGUI(imageData: image)
            QuPathGUI.instance.availablePathClasses.addAll((plan.classes ?: []).collect { PathClass.fromString(it, 0x123456) })
        }
        PathPrefs.startupScriptProperty().set(plan.startup as String)
        (plan.annotations ?: []).each { annotate(it as Map) }
        (plan.foreign ?: []).each { addForeign(it as List) }
        def answers = plan.steps.collect { play(it as Map) }
        new File(args[1]).setText(JsonOutput.toJson(answers), 'UTF-8')
        System.exit(0)  // JavaFX's thread would go on
    }

    static void annotate(Map given) {
        def roi = GeometryTools.geometryToROI(new WKTReader().read(given.wkt as String), ImagePlane.getDefaultPlane())
        def annotation = PathObjects.createAnnotationObject(roi, given.kind ? PathClass.fromString(given.kind as String) : null)
        annotation.setName(given.name as String)
        annotation.getMeasurementList().put('of the user', 7d)
        image.hierarchy.addObjects([annotation])
        named[given.key ?: given.name] = annotation
    }

    /** A detection that somebody else made, here of StarDist's kind. */
    static void addForeign(List at) {
        double x = at[0], y = at[1]
        def roi = ROIs.createPolygonROI([x, x + 5, x + 5, x] as double[], [y, y, y + 5, y + 5] as double[], ImagePlane.getDefaultPlane())
        def detection = PathObjects.createDetectionObject(roi, PathClass.fromString('Other'))
        image.hierarchy.addObjects([detection])
    }

    static Map play(Map step) {
        Dialogs.SHOWN.clear()
        Dialog.last = null
        Dialogs.answer = step.answer == null || step.answer
        FileChoosers.chosen = step.choose ? new File(step.choose as String) : null
        if (step.select != null)
            image.hierarchy.selectionModel.setSelectedObjects(step.select.collect { named[it] }, null)
        if (step.remove)
            Thread.start { whenShown { image.hierarchy.removeObjects([named[step.remove]], true) } }
        def finger = step.cancel_at == null ? null : Thread.start { pressCancel(step.cancel_at as double) }
        def failure = null
        long began = System.nanoTime()
        if (step.script) {
            def script = Thread.start {
                try {
                    new GroovyShell(Session.classLoader).evaluate(new File(step.script as String))
                } catch (Throwable problem) {
                    failure = problem
                }
            }
            if (step.interrupt_after_s != null) {
                script.join((step.interrupt_after_s * 1000) as long)
                script.interrupt()
            }
            script.join()
        }
        if (step.command) {
            // From the menu: on JavaFX's thread, which must be free at once.
            Platform.runLater { QuPathGUI.instance.commands[step.command].run() }
            Platform.waitForAll()
            while (Dialogs.SHOWN.every { it.kind == 'question' })
                Thread.sleep(50)
        }
        def seconds = (System.nanoTime() - began) / 1e9
        finger?.join()
        Platform.waitForAll()
        state(step) + [seconds: seconds, failure: failure?.message]
    }

    static void whenShown(Closure work) {
        while (!(Dialog.last?.showing))
            Thread.sleep(10)
        work()
    }

    static void pressCancel(double share) {
        whenShown { }
        def bar = Dialog.last.dialogPane.content.children[1]
        while (Dialog.last.showing && bar.progress < share)
            Thread.sleep(5)
        Platform.runLater { Dialog.last.close() }
    }

    static Map state(Map step) {
        def hierarchy = image?.hierarchy
        def dialog = Dialog.last
        [
            annotations: named.collectEntries { key, it -> [key, [
                children: it.childObjects.size(),
                types: it.childObjects.countBy { String.valueOf(it.pathClass) },
                measurements: finite(it.measurements),
                cells: step.cells ? it.childObjects.collect { describe(it) } : null,
            ]] },
            root: hierarchy?.rootObject?.childObjects?.findAll { !it.isAnnotation() }?.countBy { String.valueOf(it.name) },
            root_measurements: hierarchy == null ? null : finite(hierarchy.rootObject.measurements),
            dialogs: Dialogs.SHOWN.collect { [kind: it.kind, text: it.text] },
            bar: dialog?.dialogPane?.content?.children?.get(1)?.history,
            texts: dialog?.dialogPane?.content?.children?.get(0)?.history,
            window_open: dialog?.showing,
            classes: QuPathGUI.instance?.availablePathClasses?.collect { [it.name, it.color == null ? null : it.color & 0xffffff] },
            commands: QuPathGUI.instance?.commands?.keySet(),
            startup: PathPrefs.startupScriptProperty().get(),
            processes: ProcessHandle.current().descendants().filter { it.isAlive() }.count(),
            used_mb: step.memory ? used() : null,
        ]
    }

    static Map describe(cell) {
        [type: String.valueOf(cell.pathClass), colour: cell.pathClass.color & 0xffffff, name: cell.name,
         cell: cell.isCell(), wkt: cell.ROI.geometry.toText(), measurements: finite(cell.measurements)]
    }

    /** JSON has no NaN. */
    static Map finite(Map measurements) { measurements.collectEntries { k, v -> [k, Double.isNaN(v as double) ? 'NaN' : v] } }

    static double used() {
        System.gc()
        (Runtime.runtime.totalMemory() - Runtime.runtime.freeMemory()) / 1048576d
    }
}
