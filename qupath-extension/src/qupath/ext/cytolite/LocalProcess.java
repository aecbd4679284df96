package qupath.ext.cytolite;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import java.util.stream.Stream;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/** A command of cytolite as a process of its own, whose lines the user sees. */
public final class LocalProcess {
    private final List<String> command;
    private final Screen screen;
    private volatile String error;

    public LocalProcess(List<String> command, Screen screen) {
        this.command = command;
        this.screen = screen;
    }

    /** Run it to its end; a Stop holds the sentence of its error. Cancel ends it, and all that it started. */
    public void run() {
        screen.log("Running " + String.join(" ", command));
        Process process = start();
        List<Thread> readers = List.of(follow(process.getInputStream(), screen::log), follow(process.getErrorStream(), this::heed));
        try {
            screen.waitFor(() -> !process.isAlive(), 100);
        } finally {
            stop(process);
        }
        try {
            for (Thread reader : readers)
                reader.join();
        } catch (InterruptedException ignored) {
            throw Stop.cancelled();
        }
        if (process.exitValue() != 0)
            throw new Stop(error != null ? error : "cytolite ended with code " + process.exitValue() + "; see the log.");
    }

    private Process start() {
        try {
            ProcessBuilder builder = new ProcessBuilder(command);
            builder.environment().put("PYTHONUTF8", "1");
            builder.environment().put("PYTHONUNBUFFERED", "1");
            Process process = builder.start();
            process.getOutputStream().close();
            return process;
        } catch (IOException problem) {
            throw new Stop("Python cannot be started (" + problem.getMessage() + "); choose it again: Extensions > cytolite > Set up.");
        }
    }

    /** End it, and what it started: on Windows the Python of a virtual environment starts another one. */
    private static void stop(Process process) {
        if (!process.isAlive())
            return;
        List<ProcessHandle> all = Stream.concat(Stream.of(process.toHandle()), process.descendants()).toList();
        all.forEach(ProcessHandle::destroy);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(5);
        while (all.stream().anyMatch(ProcessHandle::isAlive) && System.nanoTime() < deadline)
            LockSupport.parkNanos(10_000_000);  // unlike sleep, also in a thread that was interrupted
        all.stream().filter(ProcessHandle::isAlive).forEach(ProcessHandle::destroyForcibly);
    }

    /** End a process that takes longer than it may, unless the thread that is returned is interrupted before. */
    static Thread endAfter(Process process, long seconds) {
        return daemon(() -> {
            try {
                if (!process.waitFor(seconds, TimeUnit.SECONDS))
                    stop(process);
            } catch (InterruptedException ignored) {
                // It has ended.
            }
        });
    }

    private static Thread follow(InputStream stream, Consumer<String> heed) {
        return daemon(() -> {
            try (BufferedReader lines = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8))) {
                lines.lines().forEach(heed);
            } catch (IOException | UncheckedIOException ended) {
                // The process was ended while it wrote.
            }
        });
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "cytolite");
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    /** A line of stderr: progress as JSON, a warning, the sentence of an error, or something for the log. */
    private void heed(String line) {
        if (line.startsWith("{") && showProgress(line))
            return;
        if (line.startsWith("error: "))
            error = line.substring("error: ".length());
        else if (line.startsWith("warning: "))
            screen.warn(line.substring("warning: ".length()));
        else
            screen.log(line);
    }

    private boolean showProgress(String line) {
        try {
            JsonObject done = JsonParser.parseString(line).getAsJsonObject();
            screen.progress(done.get("done_mm2").getAsDouble(), done.get("total_mm2").getAsDouble());
            return true;
        } catch (JsonParseException | IllegalStateException | NullPointerException other) {
            return false;
        }
    }

    /** The folder of a slide's result below `output`. */
    static File resultBelow(File output) {
        File[] folders = output.listFiles(each -> new File(each, "run.json").isFile());
        if (folders == null || folders.length == 0)
            throw new Stop("cytolite left no result in " + output + "; see the log.");
        return folders[0];
    }
}
