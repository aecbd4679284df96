package qupath.ext.cytolite;

/** Ends a run; the message is the sentence that the user reads. */
public final class Stop extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final boolean cancelled;

    public Stop(String message) {
        this(message, false);
    }

    private Stop(String message, boolean cancelled) {
        super(message);
        this.cancelled = cancelled;
    }

    public static Stop cancelled() {
        return new Stop("Cancelled; nothing was changed.", true);
    }

    public boolean isCancelled() {
        return cancelled;
    }
}
