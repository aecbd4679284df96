package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/**
 * What a Python says of the cytolite that it has: `cytolite doctor --json`.
 *
 * @param python   its path
 * @param version  of cytolite
 * @param models   names of those that come with it, and folders of those that were taught here
 * @param findings one for each thing that was looked at
 * @param verbs    commands that it has
 */
public record Doctor(String python, String version, List<String> models, List<Finding> findings, List<String> verbs) {
    private static final long TIMEOUT_S = 120;

    /**
     * One thing that was looked at.
     *
     * @param state "good", "note" or "bad"
     * @param mend  what to do; empty where all is good
     */
    public record Finding(String what, String state, String found, String mend) { }

    /** Ask a Python; a Stop says why it cannot be used. */
    public static Doctor ask(String python) {
        String answer;
        try {
            ProcessBuilder builder = new ProcessBuilder(python, "-m", "cytolite", "doctor", "--json");
            builder.environment().put("PYTHONUTF8", "1");
            builder.redirectError(ProcessBuilder.Redirect.DISCARD);
            Process process = builder.start();
            Thread limit = LocalProcess.endAfter(process, TIMEOUT_S);
            answer = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            process.waitFor(1, TimeUnit.SECONDS);
            limit.interrupt();
        } catch (IOException problem) {
            throw new Stop(python + " cannot be started (" + problem.getMessage() + "); choose the Python that has cytolite.");
        } catch (InterruptedException ignored) {
            throw Stop.cancelled();
        }
        try {
            return parse(python, JsonParser.parseString(answer).getAsJsonObject());
        } catch (JsonParseException | IllegalStateException | NullPointerException problem) {
            throw new Stop(python + " has no cytolite, or one that is older than this extension; choose the Python that has it, or install it.");
        }
    }

    static Doctor parse(String python, JsonObject json) {
        List<Finding> findings = new ArrayList<>();
        for (JsonElement each : json.getAsJsonArray("findings")) {
            JsonObject it = each.getAsJsonObject();
            findings.add(new Finding(it.get("what").getAsString(), it.get("state").getAsString(), it.get("found").getAsString(),
                it.get("mend").getAsString()));
        }
        return new Doctor(python, json.get("version").getAsString(), strings(json.get("models")), findings, strings(json.get("verbs")));
    }

    private static List<String> strings(JsonElement array) {
        List<String> found = new ArrayList<>();
        array.getAsJsonArray().forEach(each -> found.add(each.getAsString()));
        return found;
    }

    public boolean works() {
        return findings.stream().noneMatch(each -> each.state().equals("bad"));
    }

    /** Pythons that have a command `cytolite` beside them, in the usual places, the most likely first. */
    public static List<String> usualPlaces() {
        Path home = Path.of(System.getProperty("user.home"));
        List<Path> environments = new ArrayList<>(List.of(home.resolve("cytolite"), home.resolve(".venv"), home.resolve("venv"),
            home.resolve(".local/share/uv/tools/cytolite"), home.resolve("AppData/Roaming/uv/tools/cytolite"),
            home.resolve(".local/share/pipx/venvs/cytolite"), home.resolve("pipx/venvs/cytolite"), Path.of("/opt/cytolite")));
        for (String conda : List.of("miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda")) {
            File[] inside = home.resolve(conda).resolve("envs").toFile().listFiles(File::isDirectory);
            environments.add(home.resolve(conda));
            for (File each : inside == null ? new File[0] : inside)
                environments.add(each.toPath());
        }
        Set<String> found = new LinkedHashSet<>();
        environments.forEach(each -> addPython(each.resolve("bin"), found));
        environments.forEach(each -> addPython(each.resolve("Scripts"), found));
        for (String folder : System.getenv().getOrDefault("PATH", "").split(File.pathSeparator))
            if (!folder.isEmpty())
                addPython(Path.of(folder), found);
        return List.copyOf(found);
    }

    private static void addPython(Path folder, Set<String> found) {
        boolean windows = File.separatorChar == '\\';
        File command = folder.resolve(windows ? "cytolite.exe" : "cytolite").toFile();
        File python = folder.resolve(windows ? "python.exe" : "python3").toFile();
        if (command.isFile() && python.isFile())
            found.add(python.getPath());
    }
}
