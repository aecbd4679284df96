package qupath.ext.cytolite.gui;

import java.util.ArrayList;
import java.util.List;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import javafx.beans.property.StringProperty;

import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Stop;
import qupath.lib.gui.prefs.PathPrefs;

/** What is kept from one start of QuPath to the next, in QuPath's own preferences. */
final class Preferences {
    private static final int MAX_MODELS = 10;
    private final StringProperty request = PathPrefs.createPersistentPreference("cytolite.request", Request.DEFAULT.toJson());
    private final StringProperty speeds = PathPrefs.createPersistentPreference("cytolite.speeds", "{}");
    private final StringProperty models = PathPrefs.createPersistentPreference("cytolite.models", "[]");
    private final StringProperty verbs = PathPrefs.createPersistentPreference("cytolite.verbs", "[]");

    /** The options of the last run; those of an older version that cannot be read give way to the default. */
    Request request() {
        try {
            return Request.fromJson(request.get());
        } catch (Stop damaged) {
            return Request.DEFAULT;
        }
    }

    void remember(Request options) {
        request.set(options.toJson());
    }

    /** mm2 per second of the last run with these options; NaN before the first. */
    double speed(Request options) {
        JsonElement known = object(speeds).get(key(options));
        return known == null ? Double.NaN : known.getAsDouble();
    }

    void rememberSpeed(Request options, double mm2PerSecond) {
        JsonObject all = object(speeds);
        all.addProperty(key(options), mm2PerSecond);
        speeds.set(all.toString());
    }

    private static String key(Request options) {
        return options.model() + " " + options.device() + " " + options.tta() + " " + options.threads();
    }

    /** Folders of models that were used, the last one first: those that the user taught or exported. */
    List<String> modelFolders() {
        return strings(models);
    }

    void rememberModel(String folder) {
        List<String> all = new ArrayList<>(modelFolders());
        all.remove(folder);
        all.add(0, folder);
        JsonArray json = new JsonArray();
        all.stream().limit(MAX_MODELS).forEach(json::add);
        models.set(json.toString());
    }

    /** The commands that the package had when it was asked last. */
    List<String> verbs() {
        return strings(verbs);
    }

    void rememberVerbs(List<String> names) {
        JsonArray json = new JsonArray();
        names.forEach(json::add);
        verbs.set(json.toString());
    }

    private static JsonObject object(StringProperty property) {
        try {
            return JsonParser.parseString(property.get()).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException | NullPointerException damaged) {
            return new JsonObject();
        }
    }

    private static List<String> strings(StringProperty property) {
        List<String> found = new ArrayList<>();
        try {
            JsonParser.parseString(property.get()).getAsJsonArray().forEach(each -> found.add(each.getAsString()));
            return found;
        } catch (JsonParseException | IllegalStateException | NullPointerException | UnsupportedOperationException damaged) {
            return List.of();
        }
    }
}
