import com.google.gson.stream.JsonWriter
import groovy.transform.CompileStatic
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.Polygon
import qupath.lib.objects.PathObject
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.interfaces.ROI

/** A region to work on: an annotation as it was when the run began, or the whole image (no name, no outline). */
@CompileStatic
class CytoliteRegion {
    final PathObject parent
    final String name
    final ROI roi

    CytoliteRegion(PathObject parent, String name, ROI roi) {
        this.parent = parent
        this.name = name
        this.roi = roi
    }

    static CytoliteRegion wholeImage(PathObject root) { new CytoliteRegion(root, null, null) }

    /** Name each annotation after itself, else its class, else a number; a name that was used gets a number. */
    static List<CytoliteRegion> named(Collection<PathObject> annotations) {
        Set<String> taken = new HashSet<>()
        annotations.withIndex().collect { PathObject annotation, int index ->
            String name = annotation.getName()?.trim() ?: annotation.getPathClass()?.toString() ?: 'region ' + (index + 1)
            String unique = name
            for (int i = 2; !taken.add(unique); i++)
                unique = "$name $i"
            new CytoliteRegion(annotation, unique, annotation.getROI())
        }
    }

    boolean isWholeImage() { roi == null }

    boolean contains(double x, double y) { roi == null || roi.contains(x, y) }

    ImagePlane plane() { roi == null ? ImagePlane.getDefaultPlane() : roi.getImagePlane() }

    /** Write regions as GeoJSON, with holes and several parts, in pixels of the full resolution. */
    static void write(List<CytoliteRegion> regions, File file) {
        file.withWriter('UTF-8') { Writer text ->
            def json = new JsonWriter(text)
            json.beginObject().name('type').value('FeatureCollection').name('features').beginArray()
            regions.each { writeFeature(json, it) }
            json.endArray().endObject()
            json.flush()
        }
    }

    private static void writeFeature(JsonWriter json, CytoliteRegion region) {
        def geometry = region.roi.getGeometry()
        json.beginObject().name('type').value('Feature')
        json.name('properties').beginObject().name('objectType').value('annotation').name('name').value(region.name).endObject()
        json.name('geometry').beginObject().name('type').value('MultiPolygon').name('coordinates').beginArray()
        for (int i = 0; i < geometry.getNumGeometries(); i++) {
            def part = geometry.getGeometryN(i)
            if (part instanceof Polygon)
                writePolygon(json, part as Polygon)
        }
        json.endArray().endObject().endObject()
    }

    private static void writePolygon(JsonWriter json, Polygon polygon) {
        json.beginArray()
        writeRing(json, polygon.getExteriorRing())
        for (int i = 0; i < polygon.getNumInteriorRing(); i++)
            writeRing(json, polygon.getInteriorRingN(i))
        json.endArray()
    }

    private static void writeRing(JsonWriter json, Geometry ring) {
        json.beginArray()
        for (Coordinate at : ring.getCoordinates())
            json.beginArray().value(at.getX()).value(at.getY()).endArray()
        json.endArray()
    }
}
