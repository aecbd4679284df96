package qupath.ext.cytolite;

import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Supplier;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;

/**
 * What the user sees of a run. This one writes to QuPath's log alone: for "Run for project", and for QuPath without its
 * window. The windows put their own in its place.
 */
public class Screen {
    private static final Logger LOG = LoggerFactory.getLogger("cytolite");
    private static final double LOG_EVERY_S = 30;
    private static volatile Windows windows = image -> null;

    protected volatile boolean cancelled = false;
    private final List<String> said = new CopyOnWriteArrayList<>();
    private long began = System.nanoTime();
    private long shown = began;

    /** Gives the window of an image; null for an image that no window shows. */
    public interface Windows {
        Screen of(ImageData<?> image);
    }

    /** From now on these windows are used. */
    public static void use(Windows others) {
        windows = others;
    }

    static Screen of(ImageData<?> image) {
        Screen window = windows.of(image);
        return window == null ? new Screen() : window;
    }

    /** Some work begins. */
    public void begin(String text) {
        began = System.nanoTime();
        log(text);
    }

    /** A piece of work is done; totalMm2 is 0 while nobody knows. */
    public void progress(double doneMm2, double totalMm2) {
        show(describe(doneMm2, totalMm2, (System.nanoTime() - began) / 1e9), totalMm2 > 0 ? doneMm2 / totalMm2 : -1);
    }

    /** Show a line; `share` is what is done of the whole, less than 0 if nobody knows. */
    public void show(String text, double share) {
        if (System.nanoTime() - shown < LOG_EVERY_S * 1e9)
            return;
        shown = System.nanoTime();
        log(text);
    }

    /** The work has ended, well or not. */
    public void end() { }

    /** A run has ended well. */
    public void done(Outcome outcome) {
        log(outcome.sentence());
        outcome.warnings().stream().filter(each -> said.stream().noneMatch(it -> it.endsWith(each))).forEach(this::warn);
    }

    /** A model was taught. */
    public void taught(Taught taught) {
        log(taught.sentence());
        taught.doubts().forEach(this::warn);
    }

    /** How fast a run was, where it was long enough to say. */
    public void measured(Request request, double mm2PerSecond) { }

    public void tell(String message) {
        log(message);
    }

    public void warn(String message) {
        said.add(message);
        LOG.warn(message);
    }

    /** What was warned of so far, and what the result warns of besides; a process says which slide it means, a result does not. */
    protected List<String> warnings(List<String> ofResult) {
        Set<String> all = new LinkedHashSet<>(said);
        all.removeIf(each -> ofResult.stream().anyMatch(each::endsWith));
        all.addAll(ofResult);
        return List.copyOf(all);
    }

    /** Without a window the script itself must fail, so that a batch can see it. */
    public void fail(Stop stop) {
        throw stop;
    }

    /** Classes that the user's list lacks; the list of a project is kept by QuPath's window. */
    public void addClasses(Collection<PathClass> classes) { }

    public void log(String line) {
        LOG.info(line);
    }

    /** Throw if the user pressed Cancel, or if QuPath ended the script. */
    public void check() {
        if (cancelled || Thread.currentThread().isInterrupted())
            throw Stop.cancelled();
    }

    /** Wait for something with an eye on Cancel. */
    void waitFor(Supplier<Boolean> finished, long stepMs) {
        try {
            while (!finished.get()) {
                check();
                Thread.sleep(stepMs);
            }
        } catch (InterruptedException ignored) {
            throw Stop.cancelled();
        }
    }

    static String describe(double doneMm2, double totalMm2, double seconds) {
        if (totalMm2 <= 0)
            return "Reading the image";
        String text = String.format(Locale.US, "%.2f of %.2f mm\u00b2", doneMm2, totalMm2);
        if (doneMm2 <= 0 || doneMm2 >= totalMm2 || seconds <= 0)
            return text;
        double speed = doneMm2 / seconds;
        return String.format(Locale.US, "%s, %.2f mm\u00b2/s, %s left", text, speed, clock((totalMm2 - doneMm2) / speed));
    }

    /** Seconds as h:mm:ss. */
    public static String clock(double seconds) {
        long whole = Math.round(seconds);
        return String.format(Locale.US, "%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
    }
}
