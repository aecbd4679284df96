package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.StreamSupport;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;

/** A result of cytolite on its way into an image: the cells, and the counts of summary.json where there is one. */
final class Result {
    static final String SUMMARY = "summary.json";
    /** Measurements of an annotation that begin with this are cytolite's, and are replaced. */
    static final String PREFIX = "cytolite: ";

    private final File cells;
    private final JsonObject summary;
    private final Screen screen;
    private Map<String, String> classOfType = Map.of();

    Result(File cells, Screen screen) {
        this.cells = cells;
        this.screen = screen;
        File file = new File(cells.getAbsoluteFile().getParentFile(), SUMMARY);
        this.summary = file.isFile() ? readSummary(file) : null;
        if (summary == null)
            screen.log("There is no " + file + ", so no counts and densities become measurements");
    }

    private static JsonObject readSummary(File file) {
        try {
            JsonObject content = JsonParser.parseString(Files.readString(file.toPath())).getAsJsonObject();
            if (content.get("total").isJsonObject() && content.get("regions").isJsonArray())
                return content;
        } catch (IOException | JsonParseException | IllegalStateException | NullPointerException problem) {
            // Told below.
        }
        throw new Stop(file + " cannot be read; it is not a whole summary of cytolite. Run cytolite again.");
    }

    /** The regions that the result has; none for a whole image. */
    List<String> regionNames() {
        return rows().stream().map(Result::name).toList();
    }

    /** Sentences of warning: a plain text each, or an object with a message. */
    List<String> warnings() {
        JsonElement given = summary == null ? null : summary.get("warnings");
        if (given == null || !given.isJsonArray())
            return List.of();
        return StreamSupport.stream(given.getAsJsonArray().spliterator(), false)
            .map(each -> each.isJsonObject() ? each.getAsJsonObject().get("message").getAsString() : each.getAsString()).toList();
    }

    double tissueMm2() {
        return summary == null ? Double.NaN : number(summary.getAsJsonObject("total"), "tissue_mm2");
    }

    /** Refuse a result of another image, or of another view of it: cropped, turned, another series of the file. */
    void requireSize(ImageServer<?> server) {
        if (summary == null || summary.get("width_px") == null)
            return;
        int width = summary.get("width_px").getAsInt(), height = summary.get("height_px").getAsInt();
        if (width != server.getWidth() || height != server.getHeight())
            throw new Stop("cytolite read an image of " + width + " x " + height + " px, but the open one has "
                + server.getWidth() + " x " + server.getHeight() + " px; open the same image, not cropped and not turned.");
    }

    /**
     * Put the cells under their regions, in place of those that cytolite put there before. Everything is read before
     * anything is changed. Returns how many there are of each type.
     */
    Map<String, Integer> addTo(PathObjectHierarchy hierarchy, List<Region> regions, Request request) {
        Map<String, ImagePlane> planes = new HashMap<>();
        regions.forEach(region -> planes.put(region.name, region.plane()));
        Cells read = Cells.read(cells, planes, request.asCells(), request::keeps, screen);
        classOfType = read.classOfType;
        for (String name : read.byRegion.keySet())
            if (!planes.containsKey(name))
                throw new Stop("The result has the region '" + name + "', and the image no annotation of that name; "
                    + "give the annotation the name it had.");
        requireThere(hierarchy, regions);
        screen.check();
        screen.show("Adding cells", -1);
        remove(older(hierarchy, regions));
        for (Region region : regions) {
            region.parent.addChildObjects(read.byRegion.getOrDefault(region.name, List.of()));
            measure(region);
        }
        hierarchy.fireHierarchyChangedEvent(this);
        screen.addClasses(read.classes.values());
        return count(read.byRegion.values());
    }

    private static void requireThere(PathObjectHierarchy hierarchy, List<Region> regions) {
        Set<PathObject> there = Collections.newSetFromMap(new IdentityHashMap<>());
        there.addAll(hierarchy.getAnnotationObjects());
        there.add(hierarchy.getRootObject());
        for (Region region : regions)
            if (!there.contains(region.parent))
                throw new Stop("The annotation '" + region.name + "' is no longer there; nothing was changed.");
    }

    /** What cytolite added before within the regions, by its name; never anything else. By parent. */
    private static Map<PathObject, Set<PathObject>> older(PathObjectHierarchy hierarchy, List<Region> regions) {
        Map<PathObject, Set<PathObject>> found = new IdentityHashMap<>();
        for (PathObject it : hierarchy.getDetectionObjects())
            if (Cells.TAG.equals(it.getName()) && regions.stream().anyMatch(region -> holds(region, it)))
                found.computeIfAbsent(it.getParent(), parent -> new HashSet<>()).add(it);
        return found;
    }

    static boolean holds(Region region, PathObject cell) {
        return region.isWholeImage() || region.contains(cell.getROI().getCentroidX(), cell.getROI().getCentroidY());
    }

    /**
     * Remove objects from their parents, and keep what lies below them. QuPath's own removal looks at every object's
     * level and tells its listeners; here they are told once, when the new cells are there.
     */
    private static void remove(Map<PathObject, Set<PathObject>> older) {
        older.forEach((parent, objects) -> {
            List<PathObject> below = new ArrayList<>();
            objects.forEach(each -> below.addAll(each.getChildObjects()));
            below.removeIf(objects::contains);
            if (objects.size() == parent.getChildObjects().size())
                parent.clearChildObjects();
            else
                parent.removeChildObjects(objects);
            parent.addChildObjects(below);
        });
    }

    /** The class of each likeliest type, of cells that were read. */
    Map<String, String> classOfType() {
        return classOfType;
    }

    /** All cells that cytolite added. */
    static List<PathObject> cellsIn(PathObjectHierarchy hierarchy) {
        return hierarchy.getDetectionObjects().stream().filter(it -> Cells.TAG.equals(it.getName())).toList();
    }

    /**
     * Give cells that are there the class and the probabilities that they have here. They are told by their place. What
     * the user deleted stays away, and a cell whose class the user changed keeps it. Returns how many have a new name.
     */
    int rename(PathObjectHierarchy hierarchy, GivenClasses given) {
        Cells read = Cells.read(cells, Map.of(), false, name -> name.startsWith(GivenClasses.PROBABILITY), screen);
        screen.show("Naming cells", -1);
        List<PathObject> there = cellsIn(hierarchy);
        Map<Long, PathObject> byPlace = new HashMap<>();
        there.stream().filter(it -> !given.isChanged(it)).forEach(it -> byPlace.put(place(it), it));
        screen.check();
        Set<PathObject> parents = Collections.newSetFromMap(new IdentityHashMap<>());
        classOfType = read.classOfType;
        int n = 0;
        for (List<PathObject> some : read.byRegion.values())
            for (PathObject named : some) {
                PathObject cell = byPlace.get(place(named));
                if (cell == null)
                    continue;
                rename(cell, named);
                parents.add(cell.getParent());
                n++;
            }
        Map<String, String> typeOfClass = new HashMap<>();
        classOfType.forEach((type, name) -> typeOfClass.put(name, type));
        parents.forEach(parent -> countAgain(parent, typeOfClass));
        hierarchy.fireHierarchyChangedEvent(this);
        screen.addClasses(read.classes.values());
        return n;
    }

    /** In 1/64 px: the outlines of both are the same. */
    private static long place(PathObject cell) {
        return Math.round(cell.getROI().getCentroidX() * 64) << 32 | Math.round(cell.getROI().getCentroidY() * 64) & 0xffffffffL;
    }

    private static void rename(PathObject cell, PathObject named) {
        cell.setPathClass(named.getPathClass());
        MeasurementList measurements = cell.getMeasurementList();
        List.copyOf(cell.getMeasurements().keySet()).stream().filter(it -> it.startsWith(GivenClasses.PROBABILITY)).forEach(measurements::remove);
        named.getMeasurements().forEach((name, value) -> measurements.put(name, value.doubleValue()));
        measurements.close();
    }

    /** Count what lies under an annotation with counts of cytolite, per mm2 of the same tissue as before. */
    private void countAgain(PathObject parent, Map<String, String> typeOfClass) {
        Number mm2 = parent.getMeasurements().get(PREFIX + "tissue mm^2");
        if (mm2 == null)
            return;
        Map<String, Integer> counts = new LinkedHashMap<>();
        if (summary != null)
            summary.getAsJsonObject("total").getAsJsonObject("types").keySet().forEach(type -> counts.put(type, 0));
        for (PathObject each : parent.getChildObjects())
            if (Cells.TAG.equals(each.getName())) {
                String given = String.valueOf(each.getPathClass());
                counts.merge(typeOfClass.getOrDefault(given, given), 1, Integer::sum);
            }
        put(clear(parent), counts, mm2.doubleValue(), "per mm^2", "tissue mm^2");
    }

    /** Write counts and densities as measurements. */
    static void put(MeasurementList measurements, Map<String, Integer> counts, double mm2, String per, String area) {
        int n = counts.values().stream().mapToInt(Integer::intValue).sum();
        measurements.put(PREFIX + "nuclei", n);
        measurements.put(PREFIX + "nuclei " + per, n / mm2);
        counts.forEach((type, count) -> {
            measurements.put(PREFIX + type, count);
            measurements.put(PREFIX + type + " " + per, count / mm2);
        });
        measurements.put(PREFIX + area, mm2);
        measurements.close();
    }

    private static Map<String, Integer> count(Collection<List<PathObject>> all) {
        Map<String, Integer> counts = new LinkedHashMap<>();
        all.forEach(some -> some.forEach(each -> counts.merge(String.valueOf(each.getPathClass()), 1, Integer::sum)));
        return counts;
    }

    private void measure(Region region) {
        MeasurementList measurements = clear(region.parent);
        JsonObject row = region.isWholeImage() ? summary == null ? null : summary.getAsJsonObject("total")
            : rows().stream().filter(each -> name(each).equals(region.name)).findFirst().orElse(null);
        if (row != null) {
            measurements.put(PREFIX + "nuclei", number(row, "cells"));
            measurements.put(PREFIX + "nuclei per mm^2", number(row, "cells_per_mm2"));
            row.getAsJsonObject("types").entrySet().forEach(type -> {
                measurements.put(PREFIX + type.getKey(), number(type.getValue().getAsJsonObject(), "count"));
                measurements.put(PREFIX + type.getKey() + " per mm^2", number(type.getValue().getAsJsonObject(), "per_mm2"));
            });
            measurements.put(PREFIX + "tissue mm^2", number(row, "tissue_mm2"));
        }
        measurements.close();
    }

    /** Take cytolite's measurements off an object; close the list when new ones are in it. */
    static MeasurementList clear(PathObject object) {
        MeasurementList measurements = object.getMeasurementList();
        List.copyOf(object.getMeasurements().keySet()).stream().filter(it -> it.startsWith(PREFIX)).forEach(measurements::remove);
        return measurements;
    }

    private List<JsonObject> rows() {
        if (summary == null)
            return List.of();
        return StreamSupport.stream(summary.getAsJsonArray("regions").spliterator(), false).map(JsonElement::getAsJsonObject).toList();
    }

    private static String name(JsonObject row) {
        return row.get("region").getAsString();
    }

    private static double number(JsonObject row, String name) {
        return row.get(name) == null || row.get(name).isJsonNull() ? Double.NaN : row.get(name).getAsDouble();
    }
}
