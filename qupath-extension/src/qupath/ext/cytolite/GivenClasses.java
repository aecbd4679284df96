package qupath.ext.cytolite;

import java.util.HashMap;
import java.util.Map;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** Which class cytolite gave the cells of each likeliest type; QuPath saves it with the image. */
final class GivenClasses {
    static final String PROBABILITY = "p_";
    private static final String KEY = "cytolite.classes";
    private final Map<String, String> classOfType = new HashMap<>();

    private GivenClasses() { }

    static GivenClasses of(ImageData<?> image) {
        GivenClasses found = new GivenClasses();
        Object kept = image.getProperty(KEY);
        if (kept != null)
            JsonParser.parseString(kept.toString()).getAsJsonObject().entrySet().forEach(each -> found.classOfType.put(each.getKey(), each.getValue().getAsString()));
        return found;
    }

    /** Keep what a result said, beside what others said before. */
    static void remember(ImageData<?> image, Map<String, String> classOfType) {
        JsonObject json = new JsonObject();
        of(image).classOfType.forEach(json::addProperty);
        classOfType.forEach(json::addProperty);
        image.setProperty(KEY, json.toString());
    }

    /** Whether somebody gave it another class; false where nobody knows which it had. */
    boolean isChanged(PathObject cell) {
        return know(cell) && !classOfType.get(likeliest(cell)).equals(String.valueOf(cell.getPathClass()));
    }

    /** Whether it has probabilities, and their types are known. */
    boolean know(PathObject cell) {
        return classOfType.containsKey(likeliest(cell));
    }

    /** The type of the highest probability; null without any. */
    private static String likeliest(PathObject cell) {
        String best = null;
        double most = -1;
        for (Map.Entry<String, Number> each : cell.getMeasurements().entrySet())
            if (each.getKey().startsWith(PROBABILITY) && each.getValue().doubleValue() > most) {
                most = each.getValue().doubleValue();
                best = each.getKey().substring(PROBABILITY.length());
            }
        return best;
    }
}
