package qupath.ext.cytolite;

import java.io.BufferedInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PushbackInputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Predicate;
import java.util.zip.GZIPInputStream;

import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;

import qupath.lib.common.ColorTools;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.ROIs;
import qupath.lib.roi.interfaces.ROI;

/**
 * Reads a cells.geojson.gz of cytolite, object by object, so that memory holds QuPath's objects and nothing else.
 * The text of a million cells would take several times as much.
 */
final class Cells {
    /** Every object that cytolite adds has this name: what it may remove again. */
    static final String TAG = "cytolite";

    /** The cells by the region that cytolite put them into; those of a whole image are under "". */
    final Map<String, List<PathObject>> byRegion = new LinkedHashMap<>();
    final Map<String, PathClass> classes = new LinkedHashMap<>();
    /** The class of the cells whose likeliest type is this; without those whose probabilities were not kept. */
    final Map<String, String> classOfType = new HashMap<>();
    int size = 0;

    private final Map<String, ImagePlane> planes;
    private final boolean asCells;
    private final Predicate<String> keeps;
    private final Screen screen;
    private final Map<String, String> names = new HashMap<>();
    private final Map<String, Boolean> kept = new HashMap<>();
    private double[] x = new double[256];
    private double[] y = new double[256];

    private Cells(Map<String, ImagePlane> planes, boolean asCells, Predicate<String> keeps, Screen screen) {
        this.planes = planes;
        this.asCells = asCells;
        this.keeps = keeps;
        this.screen = screen;
    }

    /**
     * @param file    plain or gzipped
     * @param planes  the plane of each region; others get the default plane
     * @param asCells whether a detection becomes a cell whose nucleus and outline are one
     * @param keeps   which measurements to keep, by name
     * @param screen  asked now and then whether to go on
     */
    static Cells read(File file, Map<String, ImagePlane> planes, boolean asCells, Predicate<String> keeps, Screen screen) {
        Cells cells = new Cells(planes, asCells, keeps, screen);
        screen.show("Reading cells", -1);
        try (PushbackInputStream stream = new PushbackInputStream(new BufferedInputStream(new FileInputStream(file), 1 << 16), 2)) {
            byte[] magic = stream.readNBytes(2);
            stream.unread(magic);
            boolean zipped = magic.length == 2 && magic[0] == (byte) 0x1f && magic[1] == (byte) 0x8b;
            InputStream text = zipped ? new GZIPInputStream(stream, 1 << 16) : stream;
            cells.readCollection(new JsonReader(new InputStreamReader(text, StandardCharsets.UTF_8)));
        } catch (IOException | IllegalStateException | NumberFormatException error) {
            throw new Stop(file + " cannot be read (" + error.getMessage() + "); is it a whole cells.geojson.gz of cytolite?");
        }
        return cells;
    }

    private void readCollection(JsonReader json) throws IOException {
        json.setLenient(true);  // a measurement may be NaN
        json.beginObject();
        while (json.hasNext()) {
            if (!json.nextName().equals("features")) {
                json.skipValue();
                continue;
            }
            json.beginArray();
            while (json.hasNext()) {
                readFeature(json);
                if (++size % 20_000 == 0) {
                    screen.check();
                    screen.show(String.format(Locale.US, "Reading cells: %,d", size), -1);
                }
            }
            json.endArray();
        }
        json.endObject();
    }

    /** The properties of one feature. */
    private static final class Properties {
        String name, type, region = "";
        Integer colour;
        final List<String> keys = new ArrayList<>(16);
        double[] values = new double[16];

        String likeliest() {
            String best = null;
            double most = -1;
            for (int i = 0; i < keys.size(); i++)
                if (keys.get(i).startsWith(GivenClasses.PROBABILITY) && values[i] > most) {
                    most = values[i];
                    best = keys.get(i).substring(GivenClasses.PROBABILITY.length());
                }
            return best;
        }
    }

    private void readFeature(JsonReader json) throws IOException {
        double[][] outline = null, nucleus = null;
        Properties about = new Properties();
        json.beginObject();
        while (json.hasNext()) {
            switch (json.nextName()) {
                case "geometry" -> outline = readPolygon(json);
                case "nucleusGeometry" -> nucleus = readPolygon(json);
                case "properties" -> readProperties(json, about);
                default -> json.skipValue();
            }
        }
        json.endObject();
        if (outline == null || !TAG.equals(about.name))
            throw new IOException("object " + (size + 1) + " is not one of cytolite's");
        ImagePlane plane = planes.getOrDefault(about.region, ImagePlane.getDefaultPlane());
        ROI roi = ROIs.createPolygonROI(outline[0], outline[1], plane);
        ROI inner = nucleus != null ? ROIs.createPolygonROI(nucleus[0], nucleus[1], plane) : asCells ? roi : null;
        PathClass type = about.type == null ? null
            : classes.computeIfAbsent(about.type, name -> PathClass.fromString(name, about.colour));
        PathObject cell = inner == null ? PathObjects.createDetectionObject(roi, type) : PathObjects.createCellObject(roi, inner, type);
        cell.setName(TAG);
        if (about.likeliest() != null)
            classOfType.putIfAbsent(about.likeliest(), about.type);
        MeasurementList measurements = cell.getMeasurementList();
        for (int i = 0; i < about.keys.size(); i++)
            measurements.put(about.keys.get(i), about.values[i]);
        measurements.close();  // shares the names between cells
        byRegion.computeIfAbsent(about.region, name -> new ArrayList<>()).add(cell);
    }

    private void readProperties(JsonReader json, Properties about) throws IOException {
        json.beginObject();
        while (json.hasNext()) {
            switch (json.nextName()) {
                case "name" -> about.name = shared(json.nextString());
                case "classification" -> readClass(json, about);
                case "measurements" -> readMeasurements(json, about);
                case "metadata" -> readMetadata(json, about);
                default -> json.skipValue();
            }
        }
        json.endObject();
    }

    private void readClass(JsonReader json, Properties about) throws IOException {
        json.beginObject();
        while (json.hasNext()) {
            switch (json.nextName()) {
                case "name" -> about.type = shared(json.nextString());
                case "color" -> {
                    json.beginArray();
                    about.colour = ColorTools.packRGB(json.nextInt(), json.nextInt(), json.nextInt());
                    json.endArray();
                }
                default -> json.skipValue();
            }
        }
        json.endObject();
    }

    private void readMeasurements(JsonReader json, Properties about) throws IOException {
        json.beginObject();
        while (json.hasNext()) {
            String name = shared(json.nextName());
            double value = json.nextDouble();
            if (!kept.computeIfAbsent(name, keeps::test))
                continue;
            int n = about.keys.size();
            if (n == about.values.length)
                about.values = Arrays.copyOf(about.values, 2 * n);
            about.keys.add(name);
            about.values[n] = value;
        }
        json.endObject();
    }

    private void readMetadata(JsonReader json, Properties about) throws IOException {
        json.beginObject();
        while (json.hasNext()) {
            if (json.nextName().equals("region"))
                about.region = shared(json.nextString());
            else
                json.skipValue();
        }
        json.endObject();
    }

    /** The one copy of a text that comes with every cell. */
    private String shared(String text) {
        String known = names.putIfAbsent(text, text);
        return known == null ? text : known;
    }

    /** A polygon of one ring, without the last vertex, which repeats the first. */
    private double[][] readPolygon(JsonReader json) throws IOException {
        int n = 0;
        json.beginObject();
        while (json.hasNext()) {
            switch (json.nextName()) {
                case "type" -> {
                    String type = json.nextString();
                    if (!type.equals("Polygon"))
                        throw new IOException("object " + (size + 1) + " is a " + type + ", not a Polygon");
                }
                case "coordinates" -> {
                    json.beginArray();
                    n = readRing(json);
                    if (json.peek() != JsonToken.END_ARRAY)
                        throw new IOException("object " + (size + 1) + " has a hole");
                    json.endArray();
                }
                default -> json.skipValue();
            }
        }
        json.endObject();
        if (n < 4)
            throw new IOException("object " + (size + 1) + " has no outline");
        return new double[][] {Arrays.copyOf(x, n - 1), Arrays.copyOf(y, n - 1)};
    }

    private int readRing(JsonReader json) throws IOException {
        int n = 0;
        json.beginArray();
        while (json.hasNext()) {
            if (n == x.length) {
                x = Arrays.copyOf(x, 2 * n);
                y = Arrays.copyOf(y, 2 * n);
            }
            json.beginArray();
            x[n] = json.nextDouble();
            y[n++] = json.nextDouble();
            json.endArray();
        }
        json.endArray();
        return n;
    }
}
