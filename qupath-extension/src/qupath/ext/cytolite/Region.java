package qupath.ext.cytolite;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

import com.google.gson.stream.JsonWriter;

import org.locationtech.jts.algorithm.locate.IndexedPointInAreaLocator;
import org.locationtech.jts.geom.Coordinate;
import org.locationtech.jts.geom.Envelope;
import org.locationtech.jts.geom.Location;

import qupath.lib.objects.PathObject;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

/** A region to work on: an annotation as it was when the run began, or the whole image (no name, no outline). */
final class Region {
    final PathObject parent;
    final String name;
    final ROI roi;
    private IndexedPointInAreaLocator locator;
    private Envelope envelope;

    private Region(PathObject parent, String name, ROI roi) {
        this.parent = parent;
        this.name = name;
        this.roi = roi;
    }

    static Region wholeImage(PathObject root) {
        return new Region(root, "", null);
    }

    /** Name each annotation after itself, else its class, else a number; a name that was used gets a number. */
    static List<Region> named(Collection<PathObject> annotations) {
        Set<String> taken = new HashSet<>();
        List<Region> regions = new ArrayList<>();
        for (PathObject annotation : annotations) {
            String name = annotation.getName() == null ? "" : annotation.getName().trim();
            if (name.isEmpty())
                name = annotation.getPathClass() == null ? "region " + (regions.size() + 1) : annotation.getPathClass().toString();
            String unique = name;
            for (int i = 2; !taken.add(unique); i++)
                unique = name + " " + i;
            regions.add(new Region(annotation, unique, annotation.getROI()));
        }
        return regions;
    }

    /** Those of some annotations that are areas: no points, no lines, nothing empty. */
    static List<PathObject> areas(Collection<PathObject> annotations) {
        return annotations.stream().filter(it -> it.hasROI() && it.getROI().isArea() && !it.getROI().isEmpty()).toList();
    }

    static String describe(List<Region> regions) {
        if (!regions.isEmpty() && regions.get(0).isWholeImage())
            return "the whole image";
        return regions.size() == 1 ? "the region '" + regions.get(0).name + "'" : regions.size() + " regions";
    }

    boolean isWholeImage() {
        return roi == null;
    }

    ImagePlane plane() {
        return roi == null ? ImagePlane.getDefaultPlane() : roi.getImagePlane();
    }

    /** The border counts, as it does for cytolite. */
    boolean contains(double x, double y) {
        if (roi == null)
            return true;
        if (locator == null) {
            locator = new IndexedPointInAreaLocator(roi.getGeometry());
            envelope = roi.getGeometry().getEnvelopeInternal();
        }
        return envelope.contains(x, y) && locator.locate(new Coordinate(x, y)) != Location.EXTERIOR;
    }

    /** Write regions as GeoJSON, with holes and several parts, in pixels of the full resolution. */
    static void write(List<Region> regions, Path file) {
        try (JsonWriter json = new JsonWriter(Files.newBufferedWriter(file))) {
            json.beginObject().name("type").value("FeatureCollection").name("features").beginArray();
            for (Region region : regions)
                writeFeature(json, region);
            json.endArray().endObject();
        } catch (IOException problem) {
            throw new UncheckedIOException(problem);
        }
    }

    private static void writeFeature(JsonWriter json, Region region) throws IOException {
        json.beginObject().name("type").value("Feature");
        json.name("properties").beginObject().name("objectType").value("annotation").name("name").value(region.name).endObject();
        json.name("geometry");
        Geometries.write(json, region.roi.getGeometry());
        json.endObject();
    }
}
