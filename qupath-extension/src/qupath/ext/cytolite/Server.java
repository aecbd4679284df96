package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.Proxy;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

/** A running `cytolite serve`, which has the model loaded already. */
final class Server {
    private static final long POLL_MS = 500;
    private final String url;
    private final String token;
    private final Screen screen;

    private Server(String url, String token, Screen screen) {
        this.url = url;
        this.token = token;
        this.screen = screen;
    }

    /** The server that server.json names; null if there is none. */
    static Server find(Screen screen) {
        JsonObject content = Home.read("server.json");
        if (content == null || text(content, "url") == null || text(content, "token") == null)
            return null;
        return new Server(text(content, "url"), text(content, "token"), screen);
    }

    /** The model that it has loaded, as "name version"; null if nobody answers. */
    String model() {
        try {
            return text(call("GET", "/health", null), "model");
        } catch (IOException | JsonParseException problem) {
            screen.log("The server at " + url + " does not answer (" + problem.getMessage() + ")");
            return null;
        }
    }

    /** Start a job; null if the server refuses it, which the log says. */
    String submit(JsonObject job) {
        try {
            String id = text(call("POST", "/jobs", job), "id");
            screen.log("The server at " + url + " works on it as job " + id);
            return id;
        } catch (IOException | JsonParseException problem) {
            screen.log("The server at " + url + " does not take the job (" + problem.getMessage() + "); running a process instead");
            return null;
        }
    }

    /** Wait for a job, and return a folder with its cells.geojson.gz, and with its summary where that can be read. */
    File await(String id, File output) {
        try {
            while (true) {
                JsonObject job = call("GET", "/jobs/" + id, null);
                switch (String.valueOf(text(job, "state"))) {
                    case "done":
                        return fetch(id, job, output);
                    case "failed":
                        throw new Stop(text(job, "error") != null ? text(job, "error") : "The server failed; see its log.");
                    case "cancelled":
                        throw new Stop("The job was cancelled on the server; nothing was changed.");
                    default:
                        screen.progress(number(job, "done_mm2"), number(job, "total_mm2"));
                }
                long next = System.nanoTime() + POLL_MS * 1_000_000;
                screen.waitFor(() -> System.nanoTime() >= next, 50);
            }
        } catch (IOException | JsonParseException problem) {
            throw new Stop("The server at " + url + " stopped answering (" + problem.getMessage() + "); start it again, or stop it to do without.");
        } catch (Stop stop) {
            if (stop.isCancelled())
                cancel(id);
            throw stop;
        }
    }

    private void cancel(String id) {
        try {
            call("DELETE", "/jobs/" + id, null);
        } catch (IOException | JsonParseException problem) {
            screen.log("The server at " + url + " could not be told to stop (" + problem.getMessage() + ")");
        }
    }

    private File fetch(String id, JsonObject job, File output) throws IOException {
        try (InputStream cells = open("GET", "/jobs/" + id + "/cells.geojson.gz").getInputStream()) {
            Files.copy(cells, output.toPath().resolve("cells.geojson.gz"), StandardCopyOption.REPLACE_EXISTING);
        }
        JsonElement warnings = job.get("warnings");
        if (warnings != null && warnings.isJsonArray())
            warnings.getAsJsonArray().forEach(each -> screen.warn(each.getAsString()));
        if (text(job, "result") != null) {
            Path summary = Path.of(text(job, "result"), Result.SUMMARY);
            if (Files.isRegularFile(summary))
                Files.copy(summary, output.toPath().resolve(Result.SUMMARY), StandardCopyOption.REPLACE_EXISTING);
        }
        return output;
    }

    private JsonObject call(String method, String path, JsonObject body) throws IOException {
        HttpURLConnection connection = open(method, path);
        if (body != null) {
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setDoOutput(true);
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body.toString().getBytes(StandardCharsets.UTF_8));
            }
        }
        if (connection.getResponseCode() >= 300)
            throw new IOException(("code " + connection.getResponseCode() + " " + all(connection.getErrorStream())).trim());
        String answer = all(connection.getInputStream());
        JsonElement json = answer.isBlank() ? new JsonObject() : JsonParser.parseString(answer);
        if (!json.isJsonObject())
            throw new IOException("no object in the answer");
        return json.getAsJsonObject();
    }

    private HttpURLConnection open(String method, String path) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(url + path).openConnection(Proxy.NO_PROXY);
        connection.setRequestMethod(method);
        connection.setRequestProperty("Authorization", "Bearer " + token);
        connection.setConnectTimeout(3000);
        connection.setReadTimeout(60_000);
        return connection;
    }

    private static String all(InputStream stream) throws IOException {
        if (stream == null)
            return "";
        try (stream) {
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private static String text(JsonObject job, String name) {
        return job.get(name) == null || !job.get(name).isJsonPrimitive() ? null : job.get(name).getAsString();
    }

    private static double number(JsonObject job, String name) {
        return text(job, name) == null ? 0 : job.get(name).getAsDouble();
    }
}
