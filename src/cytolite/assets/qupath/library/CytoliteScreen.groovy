import groovy.transform.CompileStatic
import org.slf4j.Logger
import org.slf4j.LoggerFactory
import qupath.lib.gui.QuPathGUI
import qupath.lib.images.ImageData
import qupath.lib.objects.classes.PathClass

/**
 * What the user sees of a run. This one writes to QuPath's log alone: for "Run for project", and for QuPath without
 * its window.
 */
@CompileStatic
class CytoliteScreen {
    static final Logger LOG = LoggerFactory.getLogger('cytolite')
    volatile boolean cancelled = false
    private static final double LOG_EVERY_S = 30
    private long began = System.nanoTime()
    private long shown = began

    static CytoliteScreen of(ImageData image) {
        def gui = QuPathGUI.getInstance()
        gui != null && (image == null || image.is(gui.getImageData())) ? new CytoliteWindow(gui) : new CytoliteScreen()
    }

    /** Ask about something that takes long; a batch never does it unasked. */
    boolean ask(String question) { false }

    /** Let the user choose a result; null if there is nobody to ask. */
    File chooseFile() { null }

    void begin(String text) {
        began = System.nanoTime()
        log(text)
    }

    /** A piece of work is done; totalMm2 is 0 while nobody knows. */
    void progress(double doneMm2, double totalMm2) {
        show(describe(doneMm2, totalMm2), totalMm2 > 0 ? doneMm2 / totalMm2 : -1d)
    }

    /** Show a line; `share` is what is done of the whole, less than 0 if nobody knows. */
    void show(String text, double share) {
        if (System.nanoTime() - shown < LOG_EVERY_S * 1e9d)
            return
        shown = System.nanoTime()
        log(text)
    }

    void end() { }

    void tell(String message) { log(message) }

    void warn(String message) { LOG.warn(message) }

    /** Without a window the script itself must fail, so that a batch can see it. */
    void fail(CytoliteStop stop) { throw stop }

    /** Classes that the user's list lacks; the list of a project is kept by QuPath's window. */
    void addClasses(Collection<PathClass> classes) { }

    void log(String line) { LOG.info(line) }

    /** Throw if the user pressed Cancel, or if QuPath ended the script. */
    void check() {
        if (cancelled || Thread.currentThread().isInterrupted())
            throw CytoliteStop.cancelled()
    }

    protected String describe(double doneMm2, double totalMm2) {
        if (totalMm2 <= 0)
            return 'Reading the image'
        def text = String.format(Locale.US, '%.2f of %.2f mm\u00b2', doneMm2, totalMm2)
        def seconds = (System.nanoTime() - began) / 1e9d
        if (doneMm2 <= 0 || doneMm2 >= totalMm2)
            return text
        def left = Math.round(seconds * (totalMm2 - doneMm2) / doneMm2)
        text + String.format(', %d:%02d:%02d left', left.intdiv(3600), left.intdiv(60) % 60, left % 60)
    }
}
