package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/**
 * What a taught model is worth on labelled nuclei that were held out, as its report.json says.
 *
 * @param model   its folder
 * @param types   a row each
 * @param mean    of all types
 * @param heldOut how nuclei were held out, in words
 * @param curve   mean F1 with fewer labels of each type, a text each
 * @param doubts  sentences
 */
public record Taught(File model, List<Row> types, Row mean, String heldOut, List<String> curve, List<String> doubts) {
    /** F1 and its 95% interval, and that of the model that the nuclei were found with; NaN where it is not known. */
    public record Row(String name, int labels, double f1, double low, double high, double parent) {
        public String score() {
            return shown(f1) + " (" + shown(low) + " to " + shown(high) + ")";
        }

        public String before() {
            return shown(parent);
        }
    }

    static Taught read(File model) {
        File file = new File(model, "report.json");
        try {
            return parse(model, JsonParser.parseString(Files.readString(file.toPath())).getAsJsonObject());
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException problem) {
            throw new Stop(file + " cannot be read; its scores are in CARD.md beside it.");
        }
    }

    private static Taught parse(File model, JsonObject report) {
        List<Row> rows = new ArrayList<>();
        int all = 0;
        for (String name : report.getAsJsonObject("labels").keySet()) {
            int n = report.getAsJsonObject("labels").get(name).getAsInt();
            all += n;
            rows.add(row(name, n, report.getAsJsonObject("f1").getAsJsonObject(name), report.getAsJsonObject("parent_f1").get(name)));
        }
        List<String> curve = new ArrayList<>(), doubts = new ArrayList<>();
        for (JsonElement each : report.getAsJsonArray("learning_curve"))
            curve.add(each.getAsJsonObject().get("labels_of_each_type").getAsInt() + ": " + shown(number(each.getAsJsonObject().get("macro_f1"))));
        report.getAsJsonArray("doubts").forEach(each -> doubts.add(each.getAsString()));
        return new Taught(model, rows, row("mean", all, report.getAsJsonObject("macro_f1"), report.get("parent_macro_f1")),
            report.get("groups").getAsInt() + " " + report.get("grouped_by").getAsString(), curve, doubts);
    }

    private static Row row(String name, int n, JsonObject score, JsonElement parent) {
        return new Row(name, n, number(score.get("value")), number(score.get("low")), number(score.get("high")), number(parent));
    }

    private static double number(JsonElement value) {
        return value == null || value.isJsonNull() ? Double.NaN : value.getAsDouble();
    }

    private static String shown(double value) {
        return Double.isNaN(value) ? "-" : String.format(Locale.US, "%.2f", value);
    }

    public String sentence() {
        return String.format(Locale.US, "%s: mean F1 of held-out nuclei %s, of the model before %s; %,d labels. %s", model.getName(),
            mean.score(), mean.before(), mean.labels(), Outcome.NOTICE);
    }
}
