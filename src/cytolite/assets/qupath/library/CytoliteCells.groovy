import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import groovy.transform.CompileStatic
import qupath.lib.common.ColorTools
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
import qupath.lib.roi.interfaces.ROI

import java.nio.charset.StandardCharsets
import java.util.zip.GZIPInputStream

/**
 * Reads a cells.geojson.gz of cytolite, object by object, so that memory holds QuPath's objects and nothing else.
 * The text of a million cells would take several times as much.
 */
@CompileStatic
class CytoliteCells {
    /** Every object that cytolite adds has this name: what it may remove again. */
    static final String TAG = 'cytolite'

    /** The cells by the region that cytolite put them into; those of a whole image are under ''. */
    final Map<String, List<PathObject>> byRegion = new LinkedHashMap<>()
    final Map<String, PathClass> classes = new LinkedHashMap<>()
    int size = 0

    private final Map<String, ImagePlane> planes
    private final CytoliteScreen screen
    private final Map<String, String> names = new HashMap<>()
    private double[] x = new double[256]
    private double[] y = new double[256]

    private CytoliteCells(Map<String, ImagePlane> planes, CytoliteScreen screen) {
        this.planes = planes
        this.screen = screen
    }

    /**
     * @param file   plain or gzipped
     * @param planes the plane of each region; others get the default plane
     * @param screen asked now and then whether to go on
     */
    static CytoliteCells read(File file, Map<String, ImagePlane> planes, CytoliteScreen screen) {
        def cells = new CytoliteCells(planes, screen)
        screen.show('Reading cells', -1d)
        try {
            file.withInputStream { InputStream raw ->
                def stream = new PushbackInputStream(new BufferedInputStream(raw, 1 << 16), 2)
                def magic = stream.readNBytes(2)
                stream.unread(magic)
                boolean zipped = magic.length == 2 && magic[0] == (byte) 0x1f && magic[1] == (byte) 0x8b
                def text = new InputStreamReader(zipped ? new GZIPInputStream(stream, 1 << 16) : stream, StandardCharsets.UTF_8)
                cells.readCollection(new JsonReader(text))
            }
        } catch (IOException | IllegalStateException | NumberFormatException error) {
            throw new CytoliteStop("$file cannot be read (${error.message}); is it a whole cells.geojson.gz of cytolite?")
        }
        cells
    }

    private void readCollection(JsonReader json) {
        json.setLenient(true)  // a measurement may be NaN
        json.beginObject()
        while (json.hasNext()) {
            if (json.nextName() != 'features') {
                json.skipValue()
                continue
            }
            json.beginArray()
            while (json.hasNext()) {
                readFeature(json)
                if (++size % 20_000 == 0) {
                    screen.check()
                    screen.show("Reading cells: ${String.format(Locale.US, '%,d', size)}", -1d)
                }
            }
            json.endArray()
        }
        json.endObject()
    }

    private void readFeature(JsonReader json) {
        List<double[]> outline = null, nucleus = null
        Properties about = new Properties()
        json.beginObject()
        while (json.hasNext()) {
            switch (json.nextName()) {
                case 'geometry': outline = readPolygon(json); break
                case 'nucleusGeometry': nucleus = readPolygon(json); break
                case 'properties': readProperties(json, about); break
                default: json.skipValue()
            }
        }
        json.endObject()
        if (outline == null || about.name != TAG)
            throw new IOException("object ${size + 1} is not one of cytolite's")
        def plane = planes.getOrDefault(about.region, ImagePlane.getDefaultPlane())
        def roi = ROIs.createPolygonROI(outline[0], outline[1], plane)
        def kind = about.type == null ? null : classes.computeIfAbsent(about.type) { PathClass.fromString(about.type, about.colour) }
        def cell = nucleus == null
            ? PathObjects.createDetectionObject(roi, kind)
            : PathObjects.createCellObject(roi, ROIs.createPolygonROI(nucleus[0], nucleus[1], plane), kind)
        cell.setName(TAG)
        def measurements = cell.getMeasurementList()
        for (int i = 0; i < about.keys.size(); i++)
            measurements.put(about.keys[i], about.values[i])
        measurements.close()  // shares the names between cells
        byRegion.computeIfAbsent(about.region) { new ArrayList<PathObject>() }.add(cell)
    }

    private static class Properties {
        String name, type, region = ''
        Integer colour
        List<String> keys = new ArrayList<>(16)
        List<Double> values = new ArrayList<>(16)
    }

    private void readProperties(JsonReader json, Properties about) {
        json.beginObject()
        while (json.hasNext()) {
            switch (json.nextName()) {
                case 'name': about.name = shared(json.nextString()); break
                case 'classification': readClass(json, about); break
                case 'measurements': readMeasurements(json, about); break
                case 'metadata': readMetadata(json, about); break
                default: json.skipValue()
            }
        }
        json.endObject()
    }

    private void readClass(JsonReader json, Properties about) {
        json.beginObject()
        while (json.hasNext()) {
            switch (json.nextName()) {
                case 'name': about.type = shared(json.nextString()); break
                case 'color':
                    json.beginArray()
                    about.colour = ColorTools.packRGB(json.nextInt(), json.nextInt(), json.nextInt())
                    json.endArray()
                    break
                default: json.skipValue()
            }
        }
        json.endObject()
    }

    private void readMeasurements(JsonReader json, Properties about) {
        json.beginObject()
        while (json.hasNext()) {
            about.keys.add(shared(json.nextName()))
            about.values.add(json.nextDouble())
        }
        json.endObject()
    }

    private void readMetadata(JsonReader json, Properties about) {
        json.beginObject()
        while (json.hasNext()) {
            if (json.nextName() == 'region')
                about.region = shared(json.nextString())
            else
                json.skipValue()
        }
        json.endObject()
    }

    /** The one copy of a text that comes with every cell. */
    private String shared(String text) {
        def known = names.putIfAbsent(text, text)
        known == null ? text : known
    }

    /** A polygon of one ring, without the last vertex, which repeats the first. */
    private List<double[]> readPolygon(JsonReader json) {
        int n = 0
        json.beginObject()
        while (json.hasNext()) {
            switch (json.nextName()) {
                case 'type':
                    def type = json.nextString()
                    if (type != 'Polygon')
                        throw new IOException("object ${size + 1} is a $type, not a Polygon")
                    break
                case 'coordinates':
                    json.beginArray()
                    n = readRing(json)
                    if (json.peek() != JsonToken.END_ARRAY)
                        throw new IOException("object ${size + 1} has a hole")
                    json.endArray()
                    break
                default: json.skipValue()
            }
        }
        json.endObject()
        if (n < 4)
            throw new IOException("object ${size + 1} has no outline")
        [Arrays.copyOf(x, n - 1), Arrays.copyOf(y, n - 1)]
    }

    private int readRing(JsonReader json) {
        int n = 0
        json.beginArray()
        while (json.hasNext()) {
            if (n == x.length) {
                x = Arrays.copyOf(x, 2 * n)
                y = Arrays.copyOf(y, 2 * n)
            }
            json.beginArray()
            x[n] = json.nextDouble()
            y[n++] = json.nextDouble()
            json.endArray()
        }
        json.endArray()
        n
    }
}
