package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

import org.junit.jupiter.api.Test;

/** What becomes of a process that ends well, fails, crashes in the middle, or is cancelled. */
class LocalProcessTest {
    private static final String PROGRESS = "echo '{\"done_mm2\": 1.0, \"total_mm2\": 4.0}' >&2; ";
    private final List<String> lines = Collections.synchronizedList(new ArrayList<>());
    private final List<Double> shares = Collections.synchronizedList(new ArrayList<>());

    private LocalProcess shell(String script, double cancelAt) {
        return new LocalProcess(List.of("/bin/sh", "-c", script), new Screen() {
            @Override
            public void show(String text, double share) {
                shares.add(share);
                if (share >= cancelAt)
                    cancelled = true;
            }

            @Override
            public void log(String line) {
                lines.add(line);
            }

            @Override
            public void warn(String message) {
                lines.add("! " + message);
            }
        });
    }

    private static void assertNothingRuns() {
        assertEquals(0, ProcessHandle.current().descendants().filter(ProcessHandle::isAlive).count());
    }

    @Test
    void allLinesGoWhereTheyBelong() {
        shell(PROGRESS + "echo out; echo 'warning: blurred' >&2; echo plain >&2; echo '{not json' >&2", 2).run();
        assertEquals(List.of(0.25), shares);
        assertTrue(lines.containsAll(List.of("out", "! blurred", "plain", "{not json")), lines.toString());
    }

    @Test
    void theSentenceOfAnErrorIsTheUsers() {
        Stop stop = assertThrows(Stop.class, () -> shell("echo 'error: The slide is damaged.' >&2; exit 1", 2).run());
        assertEquals("The slide is damaged.", stop.getMessage());
    }

    @Test
    void aCrashInTheMiddleIsTold() {
        Stop stop = assertThrows(Stop.class, () -> shell(PROGRESS + "kill -9 $$", 2).run());
        assertTrue(stop.getMessage().startsWith("cytolite ended with code "), stop.getMessage());
        assertFalse(stop.isCancelled());
        assertEquals(List.of(0.25), shares);
    }

    @Test
    void cancelEndsItAndWhatItStarted() {
        Stop stop = assertThrows(Stop.class, () -> shell(PROGRESS + "trap '' TERM; sleep 100 & sleep 100; sleep 100", 0.2).run());
        assertTrue(stop.isCancelled());
        assertNothingRuns();
    }

    @Test
    void anInterruptIsCancel() {
        Thread.currentThread().interrupt();
        assertTrue(assertThrows(Stop.class, () -> shell("sleep 100", 2).run()).isCancelled());
        assertNothingRuns();
    }

    @Test
    void aPythonThatIsGoneIsTold() {
        LocalProcess gone = new LocalProcess(List.of("/gone/python"), new Screen());
        assertTrue(assertThrows(Stop.class, gone::run).getMessage().contains("cannot be started"));
    }
}
