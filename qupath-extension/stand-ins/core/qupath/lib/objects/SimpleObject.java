package qupath.lib.objects;

import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

/** All kinds of objects in one; QuPath has a class for each. */
public final class SimpleObject extends PathObject {
    public enum Kind { ROOT, ANNOTATION, DETECTION, CELL }

    private final Kind kind;
    private final ROI roi;
    private final ROI nucleus;
    private PathClass pathClass;
    private String name;

    public SimpleObject(Kind kind, ROI roi, ROI nucleus, PathClass pathClass) {
        this.kind = kind;
        this.roi = roi;
        this.nucleus = nucleus;
        this.pathClass = pathClass;
    }

    public ROI nucleus() {
        return nucleus;
    }

    @Override
    public PathClass getPathClass() {
        return pathClass;
    }

    @Override
    public void setPathClass(PathClass pathClass) {
        this.pathClass = pathClass;
    }

    @Override
    public ROI getROI() {
        return roi;
    }

    @Override
    public String getName() {
        return name;
    }

    @Override
    public void setName(String name) {
        this.name = name;
    }

    @Override
    public boolean isAnnotation() {
        return kind == Kind.ANNOTATION;
    }

    @Override
    public boolean isDetection() {
        return kind == Kind.DETECTION || kind == Kind.CELL;
    }

    @Override
    public boolean isCell() {
        return kind == Kind.CELL;
    }
}
