package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;

import org.junit.jupiter.api.Test;

/** A process and its result say the same of a slide; the user reads it once. */
class WarningsTest {
    @Test
    void whatTheResultSaysTooIsShownOnceAndInItsWords() {
        Screen screen = new Screen();
        screen.warn("slide 1.svs: The slide is blurred.");
        screen.warn("2 annotations without an area were left out.");
        screen.warn("2 annotations without an area were left out.");
        assertEquals(List.of("2 annotations without an area were left out.", "The slide is blurred.", "No H&E."),
            screen.warnings(List.of("The slide is blurred.", "No H&E.")));
        assertEquals(2, screen.warnings(List.of()).size());
    }
}
