package qupath.lib.roi;

import org.locationtech.jts.geom.Coordinate;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.geom.GeometryFactory;

import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.interfaces.ROI;

public class ROIs {
    private static final GeometryFactory FACTORY = new GeometryFactory();

    public static ROI createPolygonROI(double[] x, double[] y, ImagePlane plane) {
        if (x.length < 3)
            throw new IllegalArgumentException("a polygon has at least 3 vertices");
        return new Polygon(floats(x), floats(y), plane);
    }

    private static float[] floats(double[] values) {
        float[] out = new float[values.length];
        for (int i = 0; i < out.length; i++)
            out[i] = (float) values[i];
        return out;
    }

    private abstract static class Any implements ROI {
        private final ImagePlane plane;

        Any(ImagePlane plane) {
            this.plane = plane;
        }

        @Override
        public ImagePlane getImagePlane() {
            return plane;
        }

        @Override
        public boolean isArea() {
            return getGeometry().getDimension() == 2;
        }

        @Override
        public boolean isEmpty() {
            return getGeometry().isEmpty();
        }

        @Override
        public double getCentroidX() {
            return getGeometry().getCentroid().getX();
        }

        @Override
        public double getCentroidY() {
            return getGeometry().getCentroid().getY();
        }

        @Override
        public double getArea() {
            return getGeometry().getArea();
        }
    }

    /** Holds its vertices as floats, as QuPath does. */
    private static final class Polygon extends Any {
        private final float[] x, y;

        Polygon(float[] x, float[] y, ImagePlane plane) {
            super(plane);
            this.x = x;
            this.y = y;
        }

        @Override
        public Geometry getGeometry() {
            Coordinate[] ring = new Coordinate[x.length + 1];
            for (int i = 0; i <= x.length; i++)
                ring[i] = new Coordinate(x[i % x.length], y[i % x.length]);
            return FACTORY.createPolygon(ring);
        }
    }

    static final class Shape extends Any {
        private final Geometry geometry;

        Shape(Geometry geometry, ImagePlane plane) {
            super(plane);
            this.geometry = geometry;
        }

        @Override
        public Geometry getGeometry() {
            return geometry;
        }
    }
}
