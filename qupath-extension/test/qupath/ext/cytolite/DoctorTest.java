package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import com.google.gson.JsonParser;

class DoctorTest {
    private static final String ANSWER = "{\"version\":\"0.1.0\",\"models\":[\"a\",\"b\"],\"findings\":[{\"what\":\"disk\",\"state\":\"%s\",\"found\":\"f\",\"mend\":\"m\"}],"
        + "\"verbs\":[\"segment\",\"view\"],\"later\":1}";
    @TempDir
    Path folder;

    private String python(String body) throws IOException {
        Path script = folder.resolve("python3");
        Files.writeString(script, "#!/bin/sh\n" + body + "\n");
        script.toFile().setExecutable(true);
        return script.toString();
    }

    @Test
    void theAnswerIsReadAlsoWhereItHasMore() {
        Doctor doctor = Doctor.parse("p", JsonParser.parseString(String.format(ANSWER, "note")).getAsJsonObject());
        assertEquals(List.of("a", "b"), doctor.models());
        assertEquals(List.of("segment", "view"), doctor.verbs());
        assertTrue(doctor.works());
        assertFalse(Doctor.parse("p", JsonParser.parseString(String.format(ANSWER, "bad")).getAsJsonObject()).works());
    }

    @Test
    void aRealProcessIsAsked() throws IOException {
        Doctor doctor = Doctor.ask(python("[ \"$*\" = '-m cytolite doctor --json' ] && echo '" + String.format(ANSWER, "bad") + "'; exit 1"));
        assertEquals("0.1.0", doctor.version());
    }

    @Test
    void aPythonWithoutCytoliteIsToldHowToGetIt() throws IOException {
        for (String body : List.of("echo No module named cytolite >&2; exit 1", "echo '{}'", "echo hello", "echo '[1]'", "echo '{\"version\": 3'"))
            assertTrue(assertThrows(Stop.class, () -> Doctor.ask(python(body)), body).getMessage().contains("has no cytolite"), body);
        assertTrue(assertThrows(Stop.class, () -> Doctor.ask(folder.resolve("none").toString())).getMessage().contains("cannot be started"));
    }

    @Test
    void thePythonIsRememberedAsAWhole() throws IOException {
        Files.createDirectories(Home.folder());
        Files.deleteIfExists(Home.folder().resolve("qupath.json"));
        assertNull(Home.python());
        Home.rememberPython("C:\\é\\python.exe");
        Home.rememberPython("/other \"one\"");
        assertEquals("/other \"one\"", Home.python());
        Files.writeString(Home.folder().resolve("qupath.json"), "{damaged");
        assertNull(Home.python());
        try (var files = Files.list(Home.folder())) {
            assertEquals(1, files.count());
        }
    }
}
