package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.stream.Stream;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/** cytolite's own folder: ~/.cytolite, or the one that the environment's CYTOLITE_HOME names. */
public final class Home {
    private Home() { }

    static Path folder() {
        String named = System.getenv("CYTOLITE_HOME");
        return named == null || named.isEmpty() ? Path.of(System.getProperty("user.home"), ".cytolite") : Path.of(named);
    }

    /** Where a model that is taught goes. */
    public static File model(String name) {
        return folder().resolve("models").resolve(name).toFile();
    }

    /** Folders of models that were taught here. */
    public static List<String> taughtModels() {
        File[] found = folder().resolve("models").toFile().listFiles(each -> new File(each, "model.json").isFile());
        return found == null ? List.of() : Stream.of(found).map(File::getPath).sorted().toList();
    }

    /** The Python that has cytolite, as `cytolite qupath install` or the set-up wrote it; null if neither did. */
    public static String python() {
        JsonObject content = read("qupath.json");
        return content == null || !content.has("python") ? null : content.get("python").getAsString();
    }

    public static void rememberPython(String python) {
        JsonObject content = new JsonObject();
        content.addProperty("python", python);
        try {
            Files.createDirectories(folder());
            Path beside = Files.createTempFile(folder(), "qupath", ".part");
            Files.writeString(beside, content + "\n");
            Files.move(beside, folder().resolve("qupath.json"), StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException problem) {
            throw new Stop(folder().resolve("qupath.json") + " cannot be written (" + problem.getMessage() + ").");
        }
    }

    /** A JSON file of the folder; null if it is not there, or damaged. */
    static JsonObject read(String name) {
        File file = folder().resolve(name).toFile();
        try {
            return file.isFile() ? JsonParser.parseString(Files.readString(file.toPath())).getAsJsonObject() : null;
        } catch (IOException | JsonParseException | IllegalStateException problem) {
            return null;
        }
    }
}
