import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import groovy.transform.CompileStatic
import qupath.lib.images.servers.ImageServer
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.regions.ImagePlane

/** A result of cytolite on its way into an image: the cells, and the counts of summary.json where there is one. */
@CompileStatic
class CytoliteResult {
    /** Measurements of an annotation that begin with this are cytolite's, and are replaced. */
    static final String PREFIX = 'cytolite: '

    private final File cells
    private final JsonObject summary
    private final CytoliteScreen screen

    CytoliteResult(File cells, CytoliteScreen screen) {
        this.cells = cells
        this.screen = screen
        def file = new File(cells.getAbsoluteFile().getParentFile(), 'summary.json')
        this.summary = file.isFile() ? JsonParser.parseString(file.getText('UTF-8')).getAsJsonObject() : null
        if (summary == null)
            screen.log("There is no $file, so no counts and densities become measurements")
    }

    /** The regions that the result has; none for a whole image. */
    List<String> regionNames() {
        summary == null ? [] : summary.getAsJsonArray('regions').collect { JsonElement row -> name(row) }
    }

    /** What the run warned of, as text for the user; empty where there is nothing. */
    String warnings() {
        def all = summary?.get('warnings')
        all == null ? '' : all.getAsJsonArray().collect { JsonElement it -> ' Warning: ' + it.getAsJsonObject().get('message').getAsString() + '.' }.join('')
    }

    /** Refuse a result of another image, or of another view of it: cropped, turned, another series of the file. */
    void requireSize(ImageServer<?> server) {
        if (summary?.get('width_px') == null)
            return
        int width = summary.get('width_px').getAsInt(), height = summary.get('height_px').getAsInt()
        if (width != server.getWidth() || height != server.getHeight())
            throw new CytoliteStop("cytolite read an image of $width x $height px, but the open one has " +
                "${server.getWidth()} x ${server.getHeight()} px; open the same image, not cropped and not turned.")
    }

    /**
     * Put the cells under their regions, in place of those that cytolite put there before. Everything is read before
     * anything is changed. Returns the number of cells.
     */
    int addTo(PathObjectHierarchy hierarchy, List<CytoliteRegion> regions) {
        Map<String, ImagePlane> planes = new HashMap<>()
        regions.each { planes.put(it.name ?: '', it.plane()) }
        def read = CytoliteCells.read(cells, planes, screen)
        def unknown = read.byRegion.keySet() - planes.keySet()
        if (unknown)
            throw new CytoliteStop("The result has the region '${unknown.first()}', and the image no annotation of that name; " +
                'give the annotation the name it had.')
        requireThere(hierarchy, regions)
        screen.check()
        hierarchy.removeObjects(older(hierarchy, regions), true)
        for (CytoliteRegion region : regions) {
            region.parent.addChildObjects(read.byRegion.getOrDefault(region.name ?: '', new ArrayList<PathObject>()))
            measure(region)
        }
        hierarchy.fireHierarchyChangedEvent(this)
        screen.addClasses(read.classes.values())
        read.size
    }

    private static void requireThere(PathObjectHierarchy hierarchy, List<CytoliteRegion> regions) {
        Set<PathObject> there = Collections.newSetFromMap(new IdentityHashMap<PathObject, Boolean>())
        there.addAll(hierarchy.getAnnotationObjects())
        there.add(hierarchy.getRootObject())
        def gone = regions.find { !there.contains(it.parent) }
        if (gone)
            throw new CytoliteStop("The annotation '$gone.name' is no longer there; nothing was changed.")
    }

    /** What cytolite added before within the regions, by its name; never anything else. */
    private static List<PathObject> older(PathObjectHierarchy hierarchy, List<CytoliteRegion> regions) {
        hierarchy.getDetectionObjects().findAll { PathObject it ->
            it.getName() == CytoliteCells.TAG &&
                regions.any { CytoliteRegion region -> region.contains(it.getROI().getCentroidX(), it.getROI().getCentroidY()) }
        }.toList()
    }

    private void measure(CytoliteRegion region) {
        def measurements = region.parent.getMeasurementList()
        region.parent.getMeasurements().keySet().findAll { it.startsWith(PREFIX) }.each { measurements.remove(it) }
        def row = region.isWholeImage() ? summary?.get('total') : summary?.getAsJsonArray('regions')?.find { name(it) == region.name }
        if (row != null) {
            def content = ((JsonElement) row).getAsJsonObject()
            measurements.put(PREFIX + 'nuclei', number(content, 'cells'))
            measurements.put(PREFIX + 'nuclei per mm^2', number(content, 'cells_per_mm2'))
            content.getAsJsonObject('types').entrySet().each { Map.Entry<String, JsonElement> type ->
                measurements.put(PREFIX + type.key, number(type.value.getAsJsonObject(), 'count'))
                measurements.put(PREFIX + type.key + ' per mm^2', number(type.value.getAsJsonObject(), 'per_mm2'))
            }
            measurements.put(PREFIX + 'tissue mm^2', number(content, 'tissue_mm2'))
        }
        measurements.close()
    }

    private static String name(Object row) { ((JsonElement) row).getAsJsonObject().get('region').getAsString() }

    private static double number(JsonObject row, String name) {
        row.get(name).isJsonNull() ? Double.NaN : row.get(name).getAsDouble()
    }
}
