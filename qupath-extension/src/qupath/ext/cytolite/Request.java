package qupath.ext.cytolite;

import java.io.File;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/**
 * What is asked of cytolite: the one thing that the window of options, the command, the server and the step of the
 * workflow are made from.
 *
 * @param model        name of a model that comes with cytolite, or a folder; null for cytolite's own choice
 * @param device       "cpu" or "cuda"
 * @param threads      null for one per core
 * @param allTissue    whether glass is worked on too
 * @param tta          1, 4 or 8: how often each tile is shown, rotated and mirrored
 * @param asCells      whether QuPath gets cells, whose nucleus and outline are one, or detections
 * @param measurements groups that each cell keeps
 * @param wholeImage   whether annotations are left aside
 */
public record Request(String model, String device, Integer threads, boolean allTissue, int tta, boolean asCells,
        Set<Measured> measurements, boolean wholeImage) {

    /** Groups of measurements, told by their names in cytolite's files. */
    public enum Measured {
        PROBABILITIES("Probability of each type"), AREA("Area"), SHAPE("Shape"), STAIN("Stain");

        public final String title;

        Measured(String title) {
            this.title = title;
        }

        static Measured of(String name) {
            if (name.startsWith("p_"))
                return PROBABILITIES;
            if (name.startsWith("area"))
                return AREA;
            return name.contains("_od_") ? STAIN : SHAPE;
        }
    }

    public static final Request DEFAULT =
        new Request(null, "cpu", null, false, 1, false, EnumSet.allOf(Measured.class), false);
    private static final Set<String> KEYS = Set.of("model", "device", "threads", "tissue", "tta", "output", "measurements", "area");

    public Request {
        if (!Set.of("cpu", "cuda").contains(device))
            throw new Stop("The device is '" + device + "'; it can be cpu or cuda.");
        if (!Set.of(1, 4, 8).contains(tta))
            throw new Stop("tta is " + tta + "; it can be 1, 4 or 8.");
        if (threads != null && (threads < 1 || threads > 256))
            throw new Stop("threads is " + threads + "; it can be 1 to 256.");
        measurements = Set.copyOf(measurements);
    }

    boolean keeps(String measurement) {
        return measurements.contains(Measured.of(measurement));
    }

    /** The command of a process. */
    List<String> command(String python, File slide, File roi, Double mpp, File output) {
        List<String> command = new ArrayList<>(List.of(python, "-m", "cytolite", "segment", slide.getPath(), "--output",
            output.getPath(), "--progress", "json", "--device", device, "--tta", Integer.toString(tta), "--tissue", tissue()));
        if (model != null)
            command.addAll(List.of("--model", model));
        if (threads != null)
            command.addAll(List.of("--workers", threads.toString()));
        if (roi != null)
            command.addAll(List.of("--roi", roi.getPath()));
        if (mpp != null)
            command.addAll(List.of("--mpp", mpp.toString()));
        return command;
    }

    /** Whether a server that has this model ("name version") loaded would do just what is asked. */
    boolean suits(String served) {
        return (model == null || served.startsWith(model + " ")) && device.equals("cpu") && threads == null && tta == 1;
    }

    /** The body of a job for the server. */
    JsonObject job(File slide, String roi, Double mpp) {
        JsonObject job = new JsonObject();
        job.addProperty("slide", slide.getPath());
        job.addProperty("mpp", mpp);
        job.add("roi", roi == null ? null : JsonParser.parseString(roi));
        job.addProperty("output", (String) null);
        job.addProperty("tissue", tissue());
        return job;
    }

    private String tissue() {
        return allTissue ? "all" : "auto";
    }

    /** What is kept in preferences and in a step of the workflow. */
    public String toJson() {
        JsonObject json = new JsonObject();
        if (model != null)
            json.addProperty("model", model);
        json.addProperty("device", device);
        if (threads != null)
            json.addProperty("threads", threads);
        json.addProperty("tissue", tissue());
        json.addProperty("tta", tta);
        json.addProperty("output", asCells ? "cells" : "detections");
        JsonArray groups = new JsonArray();
        for (Measured group : Measured.values())
            if (measurements.contains(group))
                groups.add(group.name().toLowerCase(Locale.ROOT));
        json.add("measurements", groups);
        json.addProperty("area", wholeImage ? "image" : "regions");
        return json.toString();
    }

    /** What a user may have changed by hand in a script: every key may be missing, none may be unknown. */
    public static Request fromJson(String text) {
        try {
            JsonObject json = JsonParser.parseString(text).getAsJsonObject();
            for (String key : json.keySet())
                if (!KEYS.contains(key))
                    throw new Stop("The request has '" + key + "'; it can have " + String.join(", ", KEYS.stream().sorted().toList()) + ".");
            JsonElement groups = json.get("measurements");
            return new Request(
                json.has("model") ? json.get("model").getAsString() : null,
                json.has("device") ? json.get("device").getAsString() : DEFAULT.device,
                json.has("threads") ? json.get("threads").getAsInt() : null,
                choice(json, "tissue", "auto", "all"),
                json.has("tta") ? json.get("tta").getAsInt() : DEFAULT.tta,
                choice(json, "output", "detections", "cells"),
                groups == null ? DEFAULT.measurements : measured(groups.getAsJsonArray()),
                choice(json, "area", "regions", "image"));
        } catch (JsonParseException | IllegalStateException | UnsupportedOperationException | NumberFormatException error) {
            throw new Stop("The request cannot be read (" + error.getMessage() + "): " + text);
        }
    }

    /** The step of the workflow that does the same again. */
    public String script() {
        return "qupath.ext.cytolite.Cytolite.findNuclei(" + literal(toJson()) + ")";
    }

    /** What QuPath's list of steps shows. */
    Map<String, String> parameters() {
        return Map.of("request", toJson());
    }

    private static boolean choice(JsonObject json, String key, String no, String yes) {
        String value = json.has(key) ? json.get(key).getAsString() : no;
        if (!value.equals(no) && !value.equals(yes))
            throw new Stop(key + " is '" + value + "'; it can be " + no + " or " + yes + ".");
        return value.equals(yes);
    }

    private static Set<Measured> measured(JsonArray groups) {
        Set<Measured> found = EnumSet.noneOf(Measured.class);
        for (JsonElement group : groups)
            try {
                found.add(Measured.valueOf(group.getAsString().toUpperCase(Locale.ROOT)));
            } catch (IllegalArgumentException error) {
                throw new Stop("measurements has '" + group.getAsString() + "'; it can have probabilities, area, shape and stain.");
            }
        return found;
    }

    /** A Groovy string in ASCII, whatever encoding a script is kept in. */
    static String literal(String text) {
        StringBuilder out = new StringBuilder("'");
        for (char c : text.toCharArray())
            out.append(c == '\\' || c == '\'' ? "\\" + c : c < 128 ? String.valueOf(c) : String.format("\\u%04x", (int) c));
        return out.append("'").toString();
    }
}
