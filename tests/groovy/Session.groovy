// Plays a session in QuPath from a file of JSON: opens an image with annotations, runs scripts as QuPath's script editor
// does, presses Cancel, and writes what the user would see to another file of JSON.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.locationtech.jts.io.WKTReader
import qupath.ext.cytolite.Outcome
import qupath.ext.cytolite.Screen
import qupath.ext.cytolite.Stop
import qupath.ext.cytolite.Taught
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.Project
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools
import qupath.lib.roi.ROIs
import qupath.lib.scripting.QP

import java.nio.file.Paths

/** Stands in for the windows: takes down what they would show. */
class Recorder extends Screen {
    final List<Map> shown = Collections.synchronizedList([])
    final List<Double> bar = Collections.synchronizedList([])
    final List<String> texts = Collections.synchronizedList([])
    final List<String> classes = []
    final Map step
    int ended = 0

    Recorder(Map step) { this.step = step }

    @Override
    void show(String text, double share) {
        texts << text
        bar << share
        if (step.cancel_at != null && share >= (step.cancel_at as double))
            cancelled = true
        if (step.crash_at != null && share >= (step.crash_at as double))
            (step.pid ? ProcessHandle.of(step.pid as long).stream() : ProcessHandle.current().descendants()).forEach { it.destroyForcibly() }
        if (step.remove && share >= 0)
            Session.remove(step.remove as String)
    }

    @Override
    void done(Outcome outcome) {
        outcome.warnings().each { warn(it) }
        shown << [kind: 'info', text: outcome.sentence(), counts: outcome.counts(), tissue: finite(outcome.tissueMm2())]
    }

    private static Object finite(double value) { Double.isNaN(value) ? null : value }

    @Override
    void warn(String message) { shown << [kind: 'warning', text: message] }

    @Override
    void fail(Stop stop) {
        log(stop.message)
        shown << [kind: stop.isCancelled() ? 'cancelled' : 'error', text: stop.message]
    }

    @Override
    void addClasses(Collection<PathClass> added) { classes.addAll(added.collect { it.name }) }

    @Override
    void taught(Taught taught) {
        shown << [kind: 'taught', text: taught.sentence(), types: taught.types().collectEntries { [it.name(), it.f1()] }, held_out: taught.heldOut()]
    }

    @Override
    void end() { ended++ }
}

class Session {
    static Map plan
    static def image
    static Map named = [:]
    static Recorder recorder

    static void main(String[] args) {
        plan = new JsonSlurper().parse(new File(args[0])) as Map
        image = plan.image ? SessionImage.open(plan.image as Map) : null
        def project = plan.project ? [getPath: { Paths.get(plan.project as String) }] as Project : null
        SessionImage.show(image, project)
        (plan.annotations ?: []).each { annotate(it as Map) }
        (plan.foreign ?: []).each { addForeign(it as List) }
        def answers = plan.steps.collect { play(it as Map) }
        new File(args[1]).setText(JsonOutput.toJson(answers), 'UTF-8')
        System.exit(0)
    }

    static void annotate(Map given) {
        def roi = GeometryTools.geometryToROI(new WKTReader().read(given.wkt as String), ImagePlane.getDefaultPlane())
        def kind = given.kind ? PathClass.fromString(given.kind as String, 0x123456) : null
        def annotation = PathObjects.createAnnotationObject(roi, kind)
        annotation.setName(given.name as String)
        annotation.getMeasurementList().put('of the user', 7d)
        image.hierarchy.addObjects([annotation])
        named[given.key ?: given.name] = annotation
    }

    /** A detection that somebody else made, here of StarDist's kind. */
    static void addForeign(List at) {
        double x = at[0], y = at[1]
        def roi = ROIs.createPolygonROI([x, x + 5, x + 5, x] as double[], [y, y, y + 5, y + 5] as double[], ImagePlane.getDefaultPlane())
        image.hierarchy.addObjects([PathObjects.createDetectionObject(roi, PathClass.fromString('Other', 0x654321))])
    }

    static synchronized void remove(String key) {
        image.hierarchy.removeObjects([named[key]], true)
    }

    static Map play(Map step) {
        recorder = new Recorder(step)
        Screen.use { plan.window ? recorder : null }
        if (step.select != null)
            image.hierarchy.selectionModel.setSelectedObjects(step.select.collect { named[it] }, null)
        if (step.delete_first)
            image.hierarchy.removeObjects(image.hierarchy.detectionObjects.take(step.delete_first as int), true)
        def scripts = step.replay ? image.historyWorkflow.steps.collect { it.script } : [step.script]
        def failure = null
        long began = System.nanoTime()
        def script = Thread.start {
            try {
                scripts.each { new GroovyShell(Session.classLoader).evaluate(it as String) }
            } catch (Throwable problem) {
                failure = problem
            }
        }
        def twin = step.twice ? Thread.start { new GroovyShell(Session.classLoader).evaluate(step.script as String) } : null
        if (step.interrupt_after_s != null) {
            script.join((step.interrupt_after_s * 1000) as long)
            script.interrupt()
        }
        script.join()
        twin?.join()
        state(step) + [seconds: (System.nanoTime() - began) / 1e9, failure: failure?.message]
    }

    static Map state(Map step) {
        def hierarchy = image?.hierarchy
        [
            annotations: named.collectEntries { key, it -> [key, [
                children: it.childObjects.size(),
                types: it.childObjects.countBy { String.valueOf(it.pathClass) },
                measurements: finite(it.measurements),
                cells: step.cells ? it.childObjects.collect { describe(it) } : null,
            ]] },
            root: hierarchy?.rootObject?.childObjects?.findAll { !it.isAnnotation() }?.countBy { String.valueOf(it.name) },
            root_cells: step.cells ? hierarchy.rootObject.childObjects.findAll { it.name == 'cytolite' }.collect { describe(it) } : null,
            root_measurements: hierarchy == null ? null : finite(hierarchy.rootObject.measurements),
            dialogs: recorder.shown,
            bar: recorder.bar,
            texts: recorder.texts,
            ended: recorder.ended,
            classes: recorder.classes,
            steps: image?.historyWorkflow?.steps?.collect { [it.name, it.script] },
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
