package qupath.ext.cytolite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.io.ParseException;
import org.locationtech.jts.io.WKTReader;

import qupath.lib.common.ColorTools;
import qupath.lib.images.servers.FileServer;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.GeometryTools;
import qupath.lib.roi.ROIs;

/** What is replaced, what stays, and that nothing is changed where something is wrong. */
class ResultTest {
    @TempDir
    Path folder;
    private final PathObjectHierarchy hierarchy = new PathObjectHierarchy();
    private PathObject left, right, foreign;

    @BeforeEach
    void setUp() throws ParseException {
        left = annotation("POLYGON ((0 0, 100 0, 100 100, 0 100, 0 0), (40 40, 60 40, 60 60, 40 60, 40 40))", "left");
        right = annotation("POLYGON ((100 0, 200 0, 200 100, 100 100, 100 0))", "right");
        foreign = detection(20, 20, "StarDist");
        hierarchy.addObjects(List.of(left, right, foreign));
    }

    private static PathObject annotation(String wkt, String name) throws ParseException {
        Geometry geometry = new WKTReader().read(wkt);
        PathObject made = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(geometry, ImagePlane.getDefaultPlane()), null);
        made.setName(name);
        return made;
    }

    private static PathObject detection(double x, double y, String name) {
        PathObject made = PathObjects.createDetectionObject(ROIs.createPolygonROI(new double[] {x - 1, x + 1, x + 1, x - 1},
            new double[] {y - 1, y - 1, y + 1, y + 1}, ImagePlane.getDefaultPlane()), null);
        made.setName(name);
        return made;
    }

    private static String feature(double x, double y, String region) {
        String ring = String.format(java.util.Locale.US, "[[%f,%f],[%f,%f],[%f,%f],[%f,%f]]", x - 1, y - 1, x + 1, y - 1, x + 1, y + 1, x - 1, y - 1);
        return "{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[" + ring + "]},\"properties\":{\"name\":\"cytolite\","
            + "\"classification\":{\"name\":\"Dead\",\"color\":[1,2,3]},\"measurements\":{\"p_dead\":\"NaN\",\"area_um2\":2.5}"
            + (region == null ? "" : ",\"metadata\":{\"region\":\"" + region + "\"}") + "}}";
    }

    private Result result(String summary, String... features) throws IOException {
        Path cells = folder.resolve("cells.geojson");
        Files.writeString(cells, "{\"type\":\"FeatureCollection\",\"features\":[" + String.join(",", features) + "]}");
        if (summary != null)
            Files.writeString(folder.resolve(Result.SUMMARY), summary);
        return new Result(cells.toFile(), new Screen());
    }

    private List<Region> regions(PathObject... annotations) {
        return Region.named(List.of(annotations));
    }

    @Test
    void onlyOursWithinTheRegionsAreReplaced() throws IOException {
        PathObject inLeft = detection(10, 10, "cytolite"), inHole = detection(50, 50, "cytolite"), inRight = detection(150, 50, "cytolite");
        left.addChildObjects(List.of(inLeft, inHole));
        right.addChildObjects(List.of(inRight));
        PathObject below = detection(10.5, 10.5, "the user's");
        inLeft.addChildObjects(List.of(below));
        int events = hierarchy.events();
        Map<String, Integer> counts = result(null, feature(30, 30, "left"), feature(31, 70, "left"))
            .addTo(hierarchy, regions(left), Request.DEFAULT);
        assertEquals(Map.of("Dead", 2), counts);
        assertEquals(4, left.getChildObjects().size());  // two new ones, that in the hole, and the user's
        assertTrue(left.getChildObjects().contains(inHole));
        assertSame(left, below.getParent());
        assertFalse(left.getChildObjects().contains(inLeft));
        assertEquals(List.of(inRight), List.copyOf(right.getChildObjects()));
        assertSame(hierarchy.getRootObject(), foreign.getParent());
        assertEquals(events + 1, hierarchy.events());
    }

    /** Whatever a model's types are: a few, many, in groups. */
    @Test
    void classesAndColoursAreThoseOfTheResult() throws IOException {
        List<List<String>> sets = List.of(List.of("Tumour", "Other"), List.of("Immune: T cell", "Immune: Plasma cell", "Stroma"),
            IntStream.rangeClosed(1, 12).mapToObj(i -> "Kind " + i).toList());
        for (List<String> names : sets) {
            String[] features = IntStream.range(0, names.size()).mapToObj(i -> feature(5 + 7 * i, 20, "left").replace("\"Dead\"", '"' + names.get(i) + '"')
                .replace("[1,2,3]", "[" + i + ",200,7]").replace("p_dead\":\"NaN\"", "p_type " + i + "\":1")).toArray(String[]::new);
            Map<String, Integer> counts = result(null, features).addTo(hierarchy, regions(left), Request.DEFAULT);
            assertEquals(Set.copyOf(names), counts.keySet());
            Map<String, Integer> colours = new HashMap<>();
            left.getChildObjects().forEach(each -> colours.put(each.getPathClass().toString(), each.getPathClass().getColor()));
            assertEquals(names.size(), colours.size());
            for (int i = 0; i < names.size(); i++)
                assertEquals(ColorTools.packRGB(i, 200, 7), colours.get(names.get(i)), names.get(i));
        }
    }

    @Test
    void theBorderBelongsToARegion() {
        for (Region region : regions(left, right))
            assertTrue(region.contains(100, 50), region.name);
        assertFalse(regions(left).get(0).contains(100.01, 50));
        assertFalse(regions(left).get(0).contains(50, 50));
    }

    @Test
    void aSecondTimeGivesTheSame() throws IOException {
        Result result = result(null, feature(30, 30, null), feature(150, 70, null));
        for (int i = 0; i < 3; i++) {
            result.addTo(hierarchy, List.of(Region.wholeImage(hierarchy.getRootObject())), Request.DEFAULT);
            assertEquals(3, hierarchy.getDetectionObjects().size());
        }
    }

    @Test
    void whatIsWrongChangesNothing() throws IOException {
        left.addChildObjects(List.of(detection(10, 10, "cytolite")));
        String good = feature(30, 30, "left");
        for (String bad : List.of(feature(1, 1, "elsewhere"), good.replace("cytolite", "other"), good.replace("Polygon", "Point"), "{}", "3", good.substring(9)))
            assertThrows(Stop.class, () -> result(null, good, bad).addTo(hierarchy, regions(left), Request.DEFAULT), bad);
        assertEquals(1, left.getChildObjects().size());
        Result result = result(null, good);
        List<Region> regions = regions(left);
        hierarchy.removeObjects(List.of(left), true);
        assertTrue(assertThrows(Stop.class, () -> result.addTo(hierarchy, regions, Request.DEFAULT)).getMessage().contains("no longer there"));
    }

    @Test
    void cellsOrDetectionsWithTheMeasurementsThatAreKept() throws IOException {
        Result result = result(null, feature(30, 30, "left"));
        result.addTo(hierarchy, regions(left), Request.fromJson("{\"output\":\"cells\",\"measurements\":[\"area\"]}"));
        PathObject cell = left.getChildObjects().iterator().next();
        assertTrue(cell.isCell());
        assertEquals(List.of("area_um2"), List.copyOf(cell.getMeasurements().keySet()));
        result.addTo(hierarchy, regions(left), Request.DEFAULT);
        cell = left.getChildObjects().iterator().next();
        assertFalse(cell.isCell());
        assertTrue(Double.isNaN(cell.getMeasurementList().get("p_dead")));
        assertEquals(1, left.getChildObjects().size());
    }

    @Test
    void countsAndWarningsComeFromTheSummary() throws IOException {
        String row = "\"cells\":7,\"cells_per_mm2\":3.5,\"tissue_mm2\":2.0,\"types\":{\"dead\":{\"count\":7,\"per_mm2\":null}}}";
        left.getMeasurementList().put("cytolite: old", 1);
        left.getMeasurementList().put("mine", 2);
        Result result = result("{\"warnings\":[{\"code\":\"blur\",\"message\":\"The slide is blurred.\"},\"plain\"],\"total\":{\"region\":\"total\","
            + row + ",\"regions\":[{\"region\":\"left\"," + row + "]}", feature(30, 30, "left"));
        assertEquals(List.of("The slide is blurred.", "plain"), result.warnings());
        assertEquals(2.0, result.tissueMm2());
        result.addTo(hierarchy, regions(left), Request.DEFAULT);
        Map<String, Number> found = left.getMeasurements();
        assertEquals(List.of("mine", "cytolite: nuclei", "cytolite: nuclei per mm^2", "cytolite: dead", "cytolite: dead per mm^2", "cytolite: tissue mm^2"),
            List.copyOf(found.keySet()));
        assertEquals(7.0, found.get("cytolite: nuclei").doubleValue());
        assertTrue(Double.isNaN(found.get("cytolite: dead per mm^2").doubleValue()));
    }

    @Test
    void aDamagedSummaryIsRefused() {
        for (String bad : List.of("", "[]", "{\"total\":3,\"regions\":[]}", "{\"regions\":[]}", "{"))
            assertThrows(Stop.class, () -> result(bad), bad);
    }

    @Test
    void anotherImageIsRefused() throws IOException {
        Result result = result("{\"width_px\":300,\"height_px\":200,\"total\":{},\"regions\":[]}");
        result.requireSize(FileServer.open(URI.create("file:/a.svs"), 300, 200, 0.5, 0.5, false));
        assertThrows(Stop.class, () -> result.requireSize(FileServer.open(URI.create("file:/a.svs"), 200, 300, 0.5, 0.5, false)));
    }

    @Test
    void namesAreUnique() throws ParseException {
        PathObject none = annotation("POLYGON ((0 0, 9 0, 9 9, 0 0))", null), again = annotation("POLYGON ((0 0, 9 0, 9 9, 0 0))", " left ");
        assertEquals(List.of("left", "region 2", "left 2"), regions(left, none, again).stream().map(it -> it.name).toList());
        PathObject line = annotation("LINESTRING (0 0, 9 9)", "line"), point = annotation("POINT (3 3)", "point"), empty = annotation("POLYGON EMPTY", "empty");
        assertEquals(List.of(left), Region.areas(List.of(line, left, point, empty)));
    }
}
