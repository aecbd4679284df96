package qupath.ext.cytolite;

import java.io.IOException;

import com.google.gson.stream.JsonWriter;

import org.locationtech.jts.geom.Coordinate;
import org.locationtech.jts.geom.Geometry;
import org.locationtech.jts.geom.LineString;
import org.locationtech.jts.geom.Polygon;

/** Writes points, and areas with holes and several parts, as GeoJSON in pixels of the full resolution. */
final class Geometries {
    private Geometries() { }

    /** A MultiPoint, or a MultiPolygon of all areas that a geometry has. */
    static void write(JsonWriter json, Geometry geometry) throws IOException {
        boolean points = geometry.getDimension() == 0;
        json.beginObject().name("type").value(points ? "MultiPoint" : "MultiPolygon").name("coordinates").beginArray();
        if (points)
            for (Coordinate at : geometry.getCoordinates())
                writePosition(json, at);
        else
            for (int i = 0; i < geometry.getNumGeometries(); i++)
                if (geometry.getGeometryN(i) instanceof Polygon part)
                    writePolygon(json, part);
        json.endArray().endObject();
    }

    private static void writePolygon(JsonWriter json, Polygon polygon) throws IOException {
        json.beginArray();
        writeRing(json, polygon.getExteriorRing());
        for (int i = 0; i < polygon.getNumInteriorRing(); i++)
            writeRing(json, polygon.getInteriorRingN(i));
        json.endArray();
    }

    private static void writeRing(JsonWriter json, LineString ring) throws IOException {
        json.beginArray();
        for (Coordinate at : ring.getCoordinates())
            writePosition(json, at);
        json.endArray();
    }

    private static void writePosition(JsonWriter json, Coordinate at) throws IOException {
        json.beginArray().value(at.getX()).value(at.getY()).endArray();
    }
}
