package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

import org.junit.jupiter.api.Test;

import com.google.gson.JsonObject;

import qupath.ext.cytolite.Request.Measured;

class RequestTest {
    private static final Request FULL =
        new Request("C:\\m\u00f6dels\\it's", "cuda", 3, true, 8, true, EnumSet.of(Measured.AREA, Measured.STAIN), true);

    @Test
    void whatIsWrittenIsReadBack() {
        for (Request request : List.of(Request.DEFAULT, FULL))
            assertEquals(request, Request.fromJson(request.toJson()));
    }

    @Test
    void aMissingKeyIsTheDefault() {
        assertEquals(Request.DEFAULT, Request.fromJson("{}"));
    }

    @Test
    void anythingElseIsRefusedInASentence() {
        for (String text : List.of("", "[]", "3", "{\"tta\":2}", "{\"tta\":\"x\"}", "{\"model\":{}}", "{\"devise\":\"cpu\"}",
                "{\"threads\":0}", "{\"measurements\":[\"all\"]}", "{\"measurements\":3}", "{\"output\":\"tiles\"}", "{"))
            assertFalse(assertThrows(Stop.class, () -> Request.fromJson(text), text).getMessage().contains("\n"), text);
    }

    @Test
    void theCommandSaysAllThatIsAsked() {
        List<String> command = FULL.command("/p/python", new File("s l.svs"), new File("r.geojson"), 0.25, new File("out"));
        assertEquals(List.of("/p/python", "-m", "cytolite", "segment", "s l.svs", "--output", "out", "--progress", "json", "--device", "cuda",
            "--tta", "8", "--tissue", "all", "--model", "C:\\m\u00f6dels\\it's", "--workers", "3", "--roi", "r.geojson", "--mpp", "0.25"), command);
        List<String> plain = Request.DEFAULT.command("python", new File("s.svs"), null, null, new File("out"));
        for (String option : List.of("--model", "--workers", "--roi", "--mpp"))
            assertFalse(plain.contains(option), option);
    }

    @Test
    void theJobSaysTheSame() {
        JsonObject job = FULL.job(new File("s.svs"), "{\"type\":\"FeatureCollection\",\"features\":[]}", 0.5);
        assertEquals(Set.of("slide", "mpp", "roi", "output", "tissue"), job.keySet());  // the server refuses any other key
        assertEquals("all", job.get("tissue").getAsString());
        assertEquals(0.5, job.get("mpp").getAsDouble());
        assertTrue(Request.DEFAULT.job(new File("s.svs"), null, null).get("roi").isJsonNull());
    }

    @Test
    void aServerSuitsIfItDoesJustWhatIsAsked() {
        String served = "nuclei-light 0.2.1";
        assertTrue(Request.DEFAULT.suits(served));
        assertTrue(Request.fromJson("{\"model\":\"nuclei-light\",\"tissue\":\"all\"}").suits(served));
        for (String other : List.of("{\"model\":\"nuclei-light-int8\"}", "{\"model\":\"nuclei\"}", "{\"tta\":4}", "{\"threads\":1}", "{\"device\":\"cuda\"}"))
            assertFalse(Request.fromJson(other).suits(served), other);
    }

    @Test
    void measurementsAreKeptByGroup() {
        assertTrue(FULL.keeps("area_um2"));
        assertTrue(FULL.keeps("eosin_od_mean"));
        assertFalse(FULL.keeps("p_neoplastic"));
        assertFalse(FULL.keeps("circularity"));
        assertFalse(FULL.keeps("perimeter_um"));
    }

    @Test
    void theScriptIsAsciiAndOneLine() {
        String script = FULL.script();
        assertTrue(script.chars().allMatch(c -> c >= 32 && c < 127), script);
        assertTrue(script.contains("m\\u00f6dels"), script);
    }

    @Test
    void theTimeLeftFollowsFromTheSpeed() {
        assertEquals("1.00 of 4.00 mm\u00b2, 0.10 mm\u00b2/s, 0:00:30 left", Screen.describe(1, 4, 10));
        assertEquals("4.00 of 4.00 mm\u00b2", Screen.describe(4, 4, 40));
        assertEquals("Reading the image", Screen.describe(0, 0, 5));
        assertEquals("2:46:40", Screen.clock(10_000));
        assertNull(Request.DEFAULT.model());
    }
}
