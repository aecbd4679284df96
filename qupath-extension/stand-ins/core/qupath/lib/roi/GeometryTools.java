package qupath.lib.roi;

import org.locationtech.jts.geom.Geometry;

import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

public class GeometryTools {
    public static ROI geometryToROI(Geometry geometry, ImagePlane plane) {
        return new ROIs.Shape(geometry, plane);
    }
}
