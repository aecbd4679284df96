package qupath.lib.objects;

import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public class PathObjects {
    public static PathObject createAnnotationObject(ROI roi, PathClass pathClass) {
        return new SimpleObject(SimpleObject.Kind.ANNOTATION, roi, null, pathClass);
    }

    public static PathObject createDetectionObject(ROI roi, PathClass pathClass) {
        return new SimpleObject(SimpleObject.Kind.DETECTION, roi, null, pathClass);
    }

    public static PathObject createCellObject(ROI roi, ROI nucleus, PathClass pathClass) {
        return new SimpleObject(SimpleObject.Kind.CELL, roi, nucleus, pathClass);
    }
}
