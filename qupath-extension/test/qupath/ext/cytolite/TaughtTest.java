package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import qupath.lib.images.ImageData;
import qupath.lib.images.servers.FileServer;
import qupath.lib.projects.Project;

/** Scores as they are shown, and which results belong to an image. */
class TaughtTest {
    @TempDir
    Path folder;

    @Test
    void scoresComeFromTheReport() throws IOException {
        Files.writeString(folder.resolve("report.json"), "{\"labels\":{\"a\":12,\"b\":5},\"groups\":4,\"grouped_by\":\"regions\",\"macro_f1\":{\"value\":0.8,\"low\":0.7,\"high\":null},"
            + "\"parent_macro_f1\":null,\"f1\":{\"a\":{\"value\":0.9,\"low\":0.85,\"high\":0.95},\"b\":{\"value\":null,\"low\":null,\"high\":null}},\"parent_f1\":{\"a\":0.1,\"b\":0},"
            + "\"learning_curve\":[{\"labels_of_each_type\":5,\"macro_f1\":0.6,\"sd\":0.1}],\"doubts\":[\"Few labels.\"],\"later\":1}");
        Taught taught = Taught.read(folder.toFile());
        assertEquals("0.90 (0.85 to 0.95)", taught.types().get(0).score());
        assertEquals("- (- to -)", taught.types().get(1).score());
        assertEquals("0.10", taught.types().get(0).before());
        assertEquals(17, taught.mean().labels());
        assertEquals("-", taught.mean().before());
        assertEquals("4 regions", taught.heldOut());
        assertEquals(List.of("5: 0.60"), taught.curve());
        assertEquals(List.of("Few labels."), taught.doubts());
    }

    @Test
    void aReportThatIsNotThereOrDamagedIsTold() throws IOException {
        for (String bad : new String[] {null, "", "[]", "{}", "{\"labels\":{\"a\":1}}"}) {
            if (bad != null)
                Files.writeString(folder.resolve("report.json"), bad);
            assertTrue(assertThrows(Stop.class, () -> Taught.read(folder.toFile()), bad).getMessage().contains("CARD.md"), bad);
        }
    }

    private Path result(String run, String slide, boolean labelled) throws IOException {
        Path made = Files.createDirectories(folder.resolve("cytolite").resolve(run).resolve(slide));
        Files.writeString(made.resolve("run.json"), "{\"model\":{\"name\":\"nuclei-light\",\"version\":\"1\"}}");
        if (labelled)
            Files.writeString(made.resolve(Labels.FILE), "{}");
        return made;
    }

    @Test
    void anImageRemembersItsResults() throws IOException {
        ImageData<?> image = new ImageData<>(FileServer.open(URI.create("file:/slides/mine.svs"), 100, 100, 0.5, 0.5, false));
        assertEquals(List.of(), KeptResults.of(null));
        assertTrue(assertThrows(Stop.class, () -> Run.exportLabels(image)).getMessage().contains("open it in a project"));
        Path first = result("2026-01-01", "mine", false), second = result("2026-01-02", "mine", true);
        for (Path each : List.of(first, second, first))
            KeptResults.add(image, each.toFile());
        assertEquals(List.of(first.toFile(), second.toFile()), KeptResults.of(image));
        Files.delete(first.resolve("run.json"));
        assertEquals(List.of(second.toFile()), KeptResults.of(image));
        Project<?> project = new Project<Object>() {
            @Override
            public Path getPath() {
                return folder.resolve("project.qpproj");
            }
        };
        result("2026-01-01", "other", true);
        Path newest = result("2026-01-03", "other", true);
        result("2026-01-04", "other", false);
        assertEquals(List.of(newest.toFile()), Run.otherLabelled(image, project));
        assertEquals(List.of(), Run.otherLabelled(image, null));
    }

    @Test
    void theModelThatFoundTheNucleiIsKnownAfterAnotherNamedThem() throws IOException {
        Path result = result("1", "a", false);
        assertEquals("nuclei-light", KeptResults.modelThatFound(result.toFile()));
        Files.writeString(result.resolve("run.json"), "{\"model\":{\"name\":\"mine\",\"version\":\"1\",\"parent\":\"nuclei-base 0.2\"}}");
        assertEquals("nuclei-base", KeptResults.modelThatFound(result.toFile()));
        for (String given : List.of("null", "\"/my/model\"")) {
            Files.writeString(result.resolve("run.json"), "{\"settings\":{\"model\":" + given + "},\"model\":{\"name\":\"mine\"}}");
            assertEquals(given.equals("null") ? "mine" : "/my/model", KeptResults.modelThatFound(result.toFile()));
        }
        Files.writeString(result.resolve("run.json"), "{}");
        assertThrows(Stop.class, () -> KeptResults.modelThatFound(result.toFile()));
    }
}
