package qupath.lib.roi.interfaces;

import org.locationtech.jts.geom.Geometry;

import qupath.lib.regions.ImagePlane;

public interface ROI {
    ImagePlane getImagePlane();

    boolean isArea();

    boolean isEmpty();

    double getCentroidX();

    double getCentroidY();

    double getArea();

    Geometry getGeometry();
}
