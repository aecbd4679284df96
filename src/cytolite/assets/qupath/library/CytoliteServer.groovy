import com.google.gson.JsonObject
import com.google.gson.JsonParser
import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.StandardCopyOption

/** A running `cytolite serve`, which has the model loaded already. */
@CompileStatic
class CytoliteServer {
    private final String url
    private final String token
    private final CytoliteScreen screen

    private CytoliteServer(String url, String token, CytoliteScreen screen) {
        this.url = url
        this.token = token
        this.screen = screen
    }

    /** The server that ~/.cytolite/server.json (or $CYTOLITE_HOME) names; null if there is no such file. */
    static CytoliteServer find(CytoliteScreen screen) {
        def home = System.getenv('CYTOLITE_HOME') ?: new File(System.getProperty('user.home'), '.cytolite').path
        def file = new File(home, 'server.json')
        if (!file.isFile())
            return null
        try {
            def content = JsonParser.parseString(file.getText('UTF-8')).getAsJsonObject()
            new CytoliteServer(content.get('url').getAsString(), content.get('token').getAsString(), screen)
        } catch (RuntimeException problem) {
            screen.log("$file is not read (${problem.message})")
            null
        }
    }

    /** Start a job; null if nobody answers, or if the server refuses it, which the log says. */
    String submit(File slide, File roi, Double mpp) {
        def job = new JsonObject()
        job.addProperty('slide', slide.path)
        job.addProperty('mpp', mpp)
        job.add('roi', roi == null ? null : JsonParser.parseString(roi.getText('UTF-8')))
        job.addProperty('output', (String) null)
        try {
            def id = call('POST', '/jobs', job).get('id').getAsString()
            screen.log("The server at $url works on it as job $id")
            id
        } catch (IOException | RuntimeException problem) {
            screen.log("The server at $url does not take the job (${problem.message}); running a process instead")
            null
        }
    }

    /** Wait for a job, and return a folder with its cells.geojson.gz, and with its summary where that can be read. */
    File await(String id, File output) {
        try {
            while (true) {
                def job = call('GET', "/jobs/$id", null)
                switch (job.get('state').getAsString()) {
                    case 'done': return fetch(id, job, output)
                    case 'failed': throw new CytoliteStop(text(job, 'error') ?: 'The server failed; see its log.')
                    case 'cancelled': throw new CytoliteStop('The job was cancelled on the server; nothing was changed.')
                }
                screen.progress(number(job, 'done_mm2'), number(job, 'total_mm2'))
                screen.check()
                Thread.sleep(500)
            }
        } catch (IOException problem) {
            throw new CytoliteStop("The server at $url stopped answering (${problem.message}); start it again, or stop it to do without.")
        } catch (CytoliteStop stop) {
            if (stop.cancelled)
                cancel(id)
            throw stop
        } catch (InterruptedException ignored) {
            cancel(id)
            throw CytoliteStop.cancelled()
        }
    }

    private void cancel(String id) {
        try {
            call('DELETE', "/jobs/$id", null)
        } catch (IOException problem) {
            screen.log("The server at $url could not be told to stop (${problem.message})")
        }
    }

    private File fetch(String id, JsonObject job, File output) {
        open('GET', "/jobs/$id/cells.geojson.gz").getInputStream().withCloseable { InputStream cells ->
            Files.copy(cells, new File(output, 'cells.geojson.gz').toPath(), StandardCopyOption.REPLACE_EXISTING)
        }
        job.get('warnings')?.getAsJsonArray()?.each { screen.warn(it.getAsString()) }
        def summary = new File(text(job, 'result') ?: '', 'summary.json')
        if (summary.isFile())
            Files.copy(summary.toPath(), new File(output, 'summary.json').toPath(), StandardCopyOption.REPLACE_EXISTING)
        output
    }

    private JsonObject call(String method, String path, JsonObject body) {
        def connection = open(method, path)
        if (body != null) {
            connection.setRequestProperty('Content-Type', 'application/json')
            connection.setDoOutput(true)
            connection.getOutputStream().withCloseable { it.write(body.toString().getBytes(StandardCharsets.UTF_8)) }
        }
        if (connection.getResponseCode() >= 300) {
            def answer = connection.getErrorStream()?.getText('UTF-8') ?: ''
            throw new IOException("code ${connection.getResponseCode()} $answer".trim())
        }
        def answer = connection.getInputStream().getText('UTF-8')
        answer.isBlank() ? new JsonObject() : JsonParser.parseString(answer).getAsJsonObject()
    }

    private HttpURLConnection open(String method, String path) {
        def connection = (HttpURLConnection) new URL(url + path).openConnection(Proxy.NO_PROXY)
        connection.setRequestMethod(method)
        connection.setRequestProperty('Authorization', "Bearer $token")
        connection.setConnectTimeout(3000)
        connection.setReadTimeout(60_000)
        connection
    }

    private static String text(JsonObject job, String name) {
        job.get(name) == null || job.get(name).isJsonNull() ? null : job.get(name).getAsString()
    }

    private static double number(JsonObject job, String name) {
        text(job, name) == null ? 0d : job.get(name).getAsDouble()
    }
}
