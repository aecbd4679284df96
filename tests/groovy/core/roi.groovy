package qupath.lib.roi

import groovy.transform.CompileStatic
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.GeometryFactory
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.interfaces.ROI

@CompileStatic
class ROIs {
    static ROI createPolygonROI(double[] x, double[] y, ImagePlane plane) {
        if (x.length < 3)
            throw new IllegalArgumentException('a polygon has at least 3 vertices')
        new PolygonROI(Arrays.copyOf(x, x.length) as double[], Arrays.copyOf(y, y.length) as double[], plane)
    }
}

@CompileStatic
abstract class AnyROI implements ROI {
    private static final GeometryFactory FACTORY = new GeometryFactory()
    protected final ImagePlane plane
    protected AnyROI(ImagePlane plane) { this.plane = plane }
    ImagePlane getImagePlane() { plane }
    boolean isArea() { getGeometry().getDimension() == 2 }
    boolean isEmpty() { getGeometry().isEmpty() }
    double getCentroidX() { getGeometry().getCentroid().getX() }
    double getCentroidY() { getGeometry().getCentroid().getY() }
    double getArea() { getGeometry().getArea() }
    boolean contains(double x, double y) { getGeometry().contains(FACTORY.createPoint(new Coordinate(x, y))) }
}

/** Holds its vertices as floats, as QuPath does. */
@CompileStatic
class PolygonROI extends AnyROI {
    private final float[] x
    private final float[] y
    PolygonROI(double[] x, double[] y, ImagePlane plane) {
        super(plane)
        this.x = new float[x.length]
        this.y = new float[y.length]
        for (int i = 0; i < x.length; i++) {
            this.x[i] = (float) x[i]
            this.y[i] = (float) y[i]
        }
    }
    Geometry getGeometry() {
        def ring = new Coordinate[x.length + 1]
        for (int i = 0; i <= x.length; i++)
            ring[i] = new Coordinate(x[i % x.length], y[i % x.length])
        new GeometryFactory().createPolygon(ring)
    }
}

@CompileStatic
class GeometryROI extends AnyROI {
    private final Geometry geometry
    GeometryROI(Geometry geometry, ImagePlane plane) {
        super(plane)
        this.geometry = geometry
    }
    Geometry getGeometry() { geometry }
}

@CompileStatic
class GeometryTools {
    static ROI geometryToROI(Geometry geometry, ImagePlane plane) { new GeometryROI(geometry, plane) }
}
