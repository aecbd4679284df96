package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import qupath.lib.images.ImageData;

/** The folders of results that an image's cells came from, the newest first; QuPath saves them with the image. */
public final class KeptResults {
    public static final String NONE = "No result of this image was kept: open it in a project and find nuclei again, or import a result of the command line.";
    private static final String KEY = "cytolite.results";
    private static final int MOST = 20;

    private KeptResults() { }

    /** Those that are still there. */
    public static List<File> of(ImageData<?> image) {
        Object kept = image == null ? null : image.getProperty(KEY);
        return kept == null ? List.of() : kept.toString().lines().map(File::new).filter(KeptResults::isResult).toList();
    }

    static boolean isResult(File folder) {
        return new File(folder, "run.json").isFile();
    }

    /** The name or folder of the model that found a result's nuclei, also after another one named them. */
    public static String modelThatFound(File result) {
        try {
            JsonObject run = JsonParser.parseString(Files.readString(result.toPath().resolve("run.json"))).getAsJsonObject();
            JsonElement asked = run.has("settings") ? run.getAsJsonObject("settings").get("model") : null;
            if (asked != null && !asked.isJsonNull())
                return asked.getAsString();
            JsonObject model = run.getAsJsonObject("model");
            return (model.has("parent") ? model.get("parent") : model.get("name")).getAsString().replaceFirst(" .*", "");
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException problem) {
            throw new Stop(new File(result, "run.json") + " cannot be read; find the nuclei again.");
        }
    }

    static void add(ImageData<?> image, File folder) {
        List<File> all = new ArrayList<>(of(image));
        all.remove(folder);
        all.add(0, folder);
        set(image, all);
    }

    static void set(ImageData<?> image, List<File> folders) {
        image.setProperty(KEY, String.join("\n", folders.stream().limit(MOST).map(File::getPath).toList()));
    }
}
