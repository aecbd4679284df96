import groovy.transform.CompileStatic

/** Ends a run; the message is the sentence that the user reads. */
@CompileStatic
class CytoliteStop extends RuntimeException {
    final boolean cancelled

    CytoliteStop(String message, boolean cancelled = false) {
        super(message)
        this.cancelled = cancelled
    }

    static CytoliteStop cancelled() {
        new CytoliteStop('Cancelled; nothing was changed.', true)
    }
}
