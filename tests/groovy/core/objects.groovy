// Stand-ins for the classes of qupath-core that cytolite's scripts call: the same names, arguments and results as in
// QuPath 0.5 to 0.7, and no more of their behaviour than the scripts can see.
package qupath.lib.objects

import groovy.transform.CompileStatic
import qupath.lib.measurements.MeasurementList
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.interfaces.ROI

@CompileStatic
class PathObject {
    enum Kind { ROOT, ANNOTATION, DETECTION, CELL }
    final Kind kind
    private final ROI roi
    final ROI nucleus
    private PathClass pathClass
    private String name
    private MeasurementList measurementList
    private PathObject parent
    private Set<PathObject> children = new LinkedHashSet<>()

    PathObject(Kind kind, ROI roi, PathClass pathClass, ROI nucleus = null) {
        this.kind = kind
        this.roi = roi
        this.pathClass = pathClass
        this.nucleus = nucleus
    }
    boolean isAnnotation() { kind == Kind.ANNOTATION }
    boolean isDetection() { kind in [Kind.DETECTION, Kind.CELL] }
    boolean isCell() { kind == Kind.CELL }
    boolean hasROI() { roi != null }
    ROI getROI() { roi }
    PathClass getPathClass() { pathClass }
    void setPathClass(PathClass kind) { pathClass = kind }
    String getName() { name }
    void setName(String name) { this.name = name }
    synchronized MeasurementList getMeasurementList() {
        if (measurementList == null)
            measurementList = new MeasurementList()
        measurementList
    }
    Map<String, Number> getMeasurements() { getMeasurementList().asMap() }
    PathObject getParent() { parent }
    Collection<PathObject> getChildObjects() { Collections.unmodifiableCollection(children) }
    void addChildObjects(Collection<? extends PathObject> objects) {
        for (PathObject object : objects) {
            object.parent?.children?.remove(object)
            object.parent = this
            children.add(object)
        }
    }
    void removeChildObjects(Collection<? extends PathObject> objects) {
        for (PathObject object : objects)
            if (children.remove(object))
                object.parent = null
    }
}

@CompileStatic
class PathObjects {
    static PathObject createAnnotationObject(ROI roi, PathClass kind = null) { new PathObject(PathObject.Kind.ANNOTATION, roi, kind) }
    static PathObject createDetectionObject(ROI roi, PathClass kind = null) { new PathObject(PathObject.Kind.DETECTION, roi, kind) }
    static PathObject createCellObject(ROI roi, ROI nucleus, PathClass kind = null) {
        new PathObject(PathObject.Kind.CELL, roi, kind, nucleus)
    }
}
