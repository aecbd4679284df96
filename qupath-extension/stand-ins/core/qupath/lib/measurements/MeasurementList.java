package qupath.lib.measurements;

import java.io.Serializable;

public interface MeasurementList extends Serializable, AutoCloseable {
    void put(String name, double value);

    double get(String name);

    double remove(String name);

    @Override
    void close();
}
