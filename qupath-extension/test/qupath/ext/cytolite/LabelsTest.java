package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.locationtech.jts.io.ParseException;
import org.locationtech.jts.io.WKTReader;

import qupath.lib.images.ImageData;
import qupath.lib.images.servers.FileServer;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.GeometryTools;
import qupath.lib.roi.ROIs;
import qupath.lib.roi.interfaces.ROI;

/** What of an image is a label, and that naming again touches nothing that the user said. */
class LabelsTest {
    private static final PathClass TUMOR = PathClass.fromString("LabelsTest", 0xff0102), DEAD = PathClass.fromString("Gone", 0x030405);
    @TempDir
    Path folder;
    private final ImageData<?> image = new ImageData<>(FileServer.open(URI.create("file:/a.svs"), 300, 300, 0.5, 0.5, false));
    private final PathObjectHierarchy hierarchy = image.getHierarchy();
    private PathObject region, corrected, asGiven, unknown, deleted;

    @BeforeEach
    void setUp() throws ParseException {
        region = annotation("POLYGON ((0 0, 200 0, 200 200, 0 200, 0 0))", TUMOR);
        region.getMeasurementList().put("cytolite: nuclei", 4);
        region.getMeasurementList().put("cytolite: tissue mm^2", 0.5);
        asGiven = cell(10, 10, DEAD, Map.of("p_gone", 0.9, "p_alive", 0.1));
        corrected = cell(30, 10, TUMOR, Map.of("p_gone", 0.8, "p_alive", 0.2));
        unknown = cell(50, 10, DEAD, Map.of());
        deleted = cell(70, 10, DEAD, Map.of("p_gone", 0.9, "p_alive", 0.1));
        region.addChildObjects(List.of(asGiven, corrected, unknown));
        hierarchy.addObjects(List.of(region));
        GivenClasses.remember(image, Map.of("gone", "Gone"));
    }

    private static PathObject annotation(String wkt, PathClass type) throws ParseException {
        return PathObjects.createAnnotationObject(GeometryTools.geometryToROI(new WKTReader().read(wkt), ImagePlane.getDefaultPlane()), type);
    }

    private static PathObject cell(double x, double y, PathClass type, Map<String, Double> measurements) {
        ROI roi = ROIs.createPolygonROI(new double[] {x - 1, x + 1, x}, new double[] {y, y, y + 2}, ImagePlane.getDefaultPlane());
        PathObject made = PathObjects.createDetectionObject(roi, type);
        made.setName(Cells.TAG);
        measurements.forEach(made.getMeasurementList()::put);
        return made;
    }

    private JsonArray written() throws IOException {
        Path file = folder.resolve("labels.geojson");
        Labels.of(image).write(file.toFile());
        try (var files = Files.list(folder)) {
            assertEquals(1, files.count());
        }
        return JsonParser.parseString(Files.readString(file)).getAsJsonObject().getAsJsonArray("features");
    }

    @Test
    void pointsAreasAndWhatWasCorrected() throws Exception {
        hierarchy.addObjects(List.of(annotation("MULTIPOINT ((3 4), (5 6))", DEAD), annotation("POLYGON ((0 0, 9 0, 9 9, 0 0))", TUMOR),
            annotation("POINT (7 7)", null), annotation("LINESTRING (0 0, 9 9)", DEAD)));
        // The cell whose likeliest type is not known goes along, and is not counted: cytolite compares it with its result.
        assertEquals(List.of("Gone: 2 points", "LabelsTest: 1 area, 1 cell"), Labels.of(image).lines());
        JsonArray features = written();
        assertEquals(4, features.size());
        int points = 0;
        for (JsonElement each : features) {
            JsonObject properties = each.getAsJsonObject().getAsJsonObject("properties"), geometry = each.getAsJsonObject().getAsJsonObject("geometry");
            boolean isPoint = geometry.get("type").getAsString().equals("MultiPoint");
            points += isPoint ? 1 : 0;
            if (isPoint)
                assertEquals("[[3.0,4.0],[5.0,6.0]]", geometry.get("coordinates").toString());
            boolean tumor = properties.getAsJsonObject("classification").get("name").getAsString().equals("LabelsTest");
            assertEquals(tumor ? "[255,1,2]" : "[3,4,5]", properties.getAsJsonObject("classification").get("color").toString());
            assertEquals(properties.get("objectType").getAsString().equals("detection"), properties.has("name"));
        }
        assertEquals(1, points);
    }

    @Test
    void whatResultsSaidIsKeptTogether() {
        GivenClasses.remember(image, Map.of("alive", "Vital"));
        GivenClasses.remember(image, Map.of("late", "Late"));
        PathObject vital = cell(150, 90, PathClass.fromString("Vital", 0), Map.of("p_gone", 0.1, "p_alive", 0.9));
        PathObject other = cell(160, 90, DEAD, Map.of("p_gone", 0.1, "p_alive", 0.9)), stranger = cell(170, 90, DEAD, Map.of("p_new", 0.9));
        GivenClasses given = GivenClasses.of(image);
        assertEquals(List.of(corrected, other), List.of(asGiven, corrected, unknown, vital, other, stranger).stream().filter(given::isChanged).toList());
        assertEquals(List.of(unknown, stranger), List.of(asGiven, unknown, other, stranger).stream().filter(it -> !given.know(it)).toList());
    }

    @Test
    void withoutLabelsNothingIsWritten() {
        region.clearChildObjects();
        assertTrue(Labels.of(image).isEmpty());
        assertTrue(assertThrows(Stop.class, this::written).getMessage().startsWith("There are no labels"));
        assertEquals(0, folder.toFile().list().length);
    }

    @Test
    void namedAgainInPlace() throws Exception {
        Files.writeString(folder.resolve(Result.SUMMARY), "{\"total\":{\"types\":{\"tumour\":{},\"dead\":{},\"mitosis\":{}}},\"regions\":[]}");
        StringBuilder features = new StringBuilder();
        for (PathObject each : List.of(asGiven, corrected, unknown, deleted)) {
            double x = each.getROI().getCentroidX();
            double y = Math.rint(each.getROI().getGeometry().getCoordinates()[0].y);
            features.append(features.isEmpty() ? "" : ",").append(String.format(java.util.Locale.US, "{\"geometry\":{\"type\":\"Polygon\",\"coordinates\":"
                + "[[[%f,%f],[%f,%f],[%f,%f],[%f,%f]]]},\"properties\":{\"name\":\"cytolite\",\"classification\":{\"name\":\"Krebs\",\"color\":[1,1,1]},"
                + "\"measurements\":{\"p_tumour\":0.75,\"p_mitosis\":0.25,\"area_um2\":9},\"metadata\":{\"region\":\"elsewhere\"}}}",
                x - 1, y, x + 1, y, x, y + 2, x - 1, y));
        }
        Path cells = Files.writeString(folder.resolve("cells.geojson"), "{\"features\":[" + features + "]}");
        asGiven.getMeasurementList().put("area_um2", 3);
        int events = hierarchy.events();
        assertEquals(2, new Result(cells.toFile(), new Screen()).rename(hierarchy, GivenClasses.of(image)));
        assertEquals(3, region.getChildObjects().size());  // what was deleted stays away
        assertEquals("Krebs", asGiven.getPathClass().toString());
        assertEquals(Set.of("area_um2", "p_tumour", "p_mitosis"), asGiven.getMeasurements().keySet());
        assertEquals(0.75, asGiven.getMeasurementList().get("p_tumour"));
        assertEquals("LabelsTest", corrected.getPathClass().toString());
        assertTrue(corrected.getMeasurements().containsKey("p_gone"));
        Map<String, Number> found = region.getMeasurements();
        assertEquals(2.0, found.get("cytolite: tumour").doubleValue());
        assertEquals(4.0, found.get("cytolite: tumour per mm^2").doubleValue());
        assertEquals(0.0, found.get("cytolite: mitosis").doubleValue());
        assertEquals(1.0, found.get("cytolite: LabelsTest").doubleValue());
        assertEquals(6.0, found.get("cytolite: nuclei per mm^2").doubleValue());
        assertFalse(hierarchy.events() == events);
    }
}
