package javafx.application

/** Its thread is one of its own, as in the real one. */
class Platform {
    private static Thread fx
    private static final java.util.concurrent.ExecutorService QUEUE = java.util.concurrent.Executors.newSingleThreadExecutor { work ->
        fx = new Thread(work, 'JavaFX')
        fx.daemon = true
        fx
    }
    static void runLater(Runnable work) { QUEUE.submit(work) }
    static boolean isFxApplicationThread() { Thread.currentThread().is(fx) }
    static void waitForAll() { QUEUE.submit({ } as Runnable).get() }
}
