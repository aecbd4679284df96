package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import com.google.gson.stream.JsonWriter;

import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/**
 * What a user named, as `cytolite teach` reads it: points and areas that have a class, and cells of cytolite with
 * another class than it gave. Regions that cytolite counted in are no labels, whatever their class.
 */
public final class Labels {
    /** Beside the result that they are of. */
    public static final String FILE = "labels.geojson";
    private final List<PathObject> objects = new ArrayList<>();
    private final Map<String, int[]> counts = new TreeMap<>();

    private Labels() { }

    public static Labels of(ImageData<?> image) {
        PathObjectHierarchy hierarchy = image.getHierarchy();
        Labels found = new Labels();
        for (PathObject each : hierarchy.getAnnotationObjects())
            if (each.getPathClass() != null && each.hasROI() && !each.getROI().isEmpty())
                found.addAnnotation(each);
        GivenClasses given = GivenClasses.of(image);
        for (PathObject each : Result.cellsIn(hierarchy))
            // Where that is not known, cytolite finds out; it has the result.
            if (each.getPathClass() != null && (given.isChanged(each) || !given.know(each)))
                found.add(each, 2, given.know(each) ? 1 : 0);
        return found;
    }

    private void addAnnotation(PathObject annotation) {
        int dimension = annotation.getROI().getGeometry().getDimension();
        if (dimension == 0)
            add(annotation, 0, annotation.getROI().getGeometry().getNumPoints());
        else if (dimension == 2 && !annotation.getMeasurements().containsKey(Result.PREFIX + "nuclei"))
            add(annotation, 1, 1);
    }

    private void add(PathObject object, int kind, int n) {
        objects.add(object);
        counts.computeIfAbsent(object.getPathClass().toString(), name -> new int[3])[kind] += n;
    }

    public boolean isEmpty() {
        return objects.isEmpty();
    }

    /** How many of each class, a line each: "Tumour: 12 points, 1 area, 3 cells". */
    public List<String> lines() {
        List<String> lines = new ArrayList<>();
        counts.forEach((name, n) -> {
            List<String> parts = new ArrayList<>();
            for (int kind = 0; kind < 3; kind++)
                if (n[kind] > 0)
                    parts.add(n[kind] + " " + List.of("point", "area", "cell").get(kind) + (n[kind] == 1 ? "" : "s"));
            if (!parts.isEmpty())
                lines.add(name + ": " + String.join(", ", parts));
        });
        return lines;
    }

    /** Write all as GeoJSON, as a whole or not at all. */
    public void write(File file) {
        if (isEmpty())
            throw new Stop("There are no labels: give cells another class, or draw points or areas and give them one (Set class).");
        Path target = file.getAbsoluteFile().toPath(), part = target.resolveSibling(target.getFileName() + ".part");
        try {
            try (JsonWriter json = new JsonWriter(Files.newBufferedWriter(part))) {
                json.beginObject().name("type").value("FeatureCollection").name("features").beginArray();
                for (PathObject object : objects)
                    write(json, object);
                json.endArray().endObject();
            }
            Files.move(part, target, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException problem) {
            throw new Stop("The labels cannot be written to " + file + " (" + problem.getMessage() + ").");
        }
    }

    private static void write(JsonWriter json, PathObject object) throws IOException {
        PathClass type = object.getPathClass();
        json.beginObject().name("type").value("Feature").name("geometry");
        Geometries.write(json, object.getROI().getGeometry());
        json.name("properties").beginObject().name("objectType").value(object.isAnnotation() ? "annotation" : "detection");
        if (!object.isAnnotation())
            json.name("name").value(Cells.TAG);
        json.name("classification").beginObject().name("name").value(type.toString());
        if (type.getColor() != null) {
            int rgb = type.getColor();
            json.name("color").beginArray().value(rgb >> 16 & 255).value(rgb >> 8 & 255).value(rgb & 255).endArray();
        }
        json.endObject().endObject().endObject();
    }
}
