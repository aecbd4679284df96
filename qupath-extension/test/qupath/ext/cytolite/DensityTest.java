package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Reads maps that the Python package wrote; the caller put them into the folder that CYTOLITE_TEST_RESULT names. */
class DensityTest {
    private static final File RESULT = new File(System.getenv("CYTOLITE_TEST_RESULT"));
    @TempDir
    Path folder;

    @Test
    void mapsAreWhatPythonWrote() {
        Density density = Density.open(RESULT);
        assertEquals(List.of("neoplastic", "lymphocyt\u00e9"), density.types);
        assertEquals(8.0, density.downsample);  // 4 um on a slide of 0.5 um/px
        for (int channel = 0; channel < 2; channel++) {
            float[][] map = density.map(density.types.get(channel));
            assertEquals(300, map.length);
            assertEquals(500, map[0].length);
            assertEquals(0, map[0][0]);
            assertEquals(1000 * channel + 130.25f, map[130][300], 1e-3);
        }
    }

    @Test
    void coloursGetLighterAndLessTransparent() {
        assertEquals(0, Density.colour(0));
        assertEquals(0, Density.colour(Double.NaN));
        assertEquals(Density.colour(1), Density.colour(7));
        int alpha = 0;
        for (double share = 0.05; share <= 1; share += 0.05) {
            assertTrue((Density.colour(share) >>> 24) > alpha);
            alpha = Density.colour(share) >>> 24;
        }
        BufferedImage picture = Density.picture(new float[][] {{0, 1, 2}}, 2);
        assertEquals(0, picture.getRGB(0, 0));
        assertEquals(Density.colour(1), picture.getRGB(2, 0));
        assertEquals(0, Density.picture(new float[][] {{0}}, 0).getRGB(0, 0));
    }

    @Test
    void whatIsNoMapIsTold() throws IOException {
        Path spatial = Files.createDirectories(folder.resolve("spatial"));
        assertTrue(assertThrows(Stop.class, () -> Density.open(folder.toFile())).getMessage().contains("cannot be read"));
        Files.writeString(spatial.resolve("measures.json"), "{\"mpp\":0.5,\"types\":[\"a\"],\"window\":{\"px_um\":4}}");
        for (byte[] bad : List.of(new byte[0], "no tiff".getBytes(), new byte[] {'I', 'I', 42, 0, 8, 0, 0, 0})) {
            Files.write(spatial.resolve("density.ome.tif"), bad);
            assertTrue(assertThrows(Stop.class, () -> Density.open(folder.toFile()).map("a")).getMessage().contains("cannot be read"));
        }
    }
}
