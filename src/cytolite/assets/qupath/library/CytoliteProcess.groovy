import com.google.gson.JsonObject
import com.google.gson.JsonParser
import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.LockSupport

/** `cytolite segment` as a process of its own, by the Python it was installed for. */
@CompileStatic
class CytoliteProcess {
    private final List<String> command
    private final CytoliteScreen screen
    private volatile String error

    CytoliteProcess(String python, List<String> options, CytoliteScreen screen) {
        this.command = [python, '-m', 'cytolite', 'segment'] + options
        this.screen = screen
    }

    /** Work on a slide, and return the folder of its result, below `output`. */
    File run(File slide, File roi, Double mpp, File output) {
        def all = command + [slide.path, '--output', output.path, '--progress', 'json']
        if (roi != null)
            all += ['--roi', roi.path]
        if (mpp != null)
            all += ['--mpp', mpp.toString()]
        screen.log("Running ${all.join(' ')}")
        def process = start(all)
        def readers = [follow(process.getInputStream(), screen.&log), follow(process.getErrorStream(), this.&heed)]
        try {
            while (!process.waitFor(200, TimeUnit.MILLISECONDS))
                screen.check()
        } catch (InterruptedException ignored) {
            throw CytoliteStop.cancelled()
        } finally {
            stop(process)
        }
        readers*.join()
        def result = output.listFiles()?.find { new File(it, 'run.json').isFile() }
        if (process.exitValue() != 0 || result == null)
            throw new CytoliteStop(error ?: "cytolite ended with code ${process.exitValue()}; see the log.".toString())
        result
    }

    private Process start(List<String> all) {
        try {
            def builder = new ProcessBuilder(all)
            builder.environment().putAll([PYTHONUTF8: '1', PYTHONUNBUFFERED: '1'])
            builder.start()
        } catch (IOException problem) {
            throw new CytoliteStop("Python cannot be started (${problem.message}): run `cytolite qupath install` again.")
        }
    }

    /** End it, and what it started: on Windows the Python of a virtual environment starts another one. */
    private static void stop(Process process) {
        if (!process.isAlive())
            return
        def all = [process.toHandle()] + process.descendants().toList()
        all*.destroy()
        def deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(5)
        while (all.any { it.isAlive() } && System.nanoTime() < deadline)
            LockSupport.parkNanos(10_000_000)  // unlike sleep, also in a thread that was interrupted
        all.findAll { it.isAlive() }*.destroyForcibly()
    }

    private static Thread follow(InputStream stream, Closure heed) {
        Thread.start { new InputStreamReader(stream, StandardCharsets.UTF_8).eachLine { String line -> heed.call(line) } }
    }

    /** A line of stderr: progress as JSON, a warning, the sentence of an error, or something for the log. */
    private void heed(String line) {
        if (line.startsWith('{')) {
            JsonObject done = JsonParser.parseString(line).getAsJsonObject()
            screen.progress(done.get('done_mm2').getAsDouble(), done.get('total_mm2').getAsDouble())
        } else if (line.startsWith('error: ')) {
            error = line.substring('error: '.length())
        } else if (line.startsWith('warning: ')) {
            screen.warn(line.substring('warning: '.length()))
        } else {
            screen.log(line)
        }
    }
}
