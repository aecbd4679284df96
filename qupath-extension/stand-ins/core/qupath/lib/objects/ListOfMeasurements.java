package qupath.lib.objects;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import qupath.lib.measurements.MeasurementList;

/** As QuPath's lists of numbers: floats, and names that are shared once a list is closed. */
final class ListOfMeasurements implements MeasurementList {
    private static final long serialVersionUID = 1;
    private static final Map<List<String>, List<String>> POOL = new HashMap<>();
    private List<String> names = new ArrayList<>(16);
    private float[] values = new float[16];

    @Override
    public synchronized void put(String name, double value) {
        int at = names.indexOf(name);
        if (at < 0) {
            names = new ArrayList<>(names);
            names.add(name);
            at = names.size() - 1;
            if (at >= values.length)
                values = Arrays.copyOf(values, Math.max(16, 2 * at));
        }
        values[at] = (float) value;
    }

    @Override
    public synchronized double get(String name) {
        int at = names.indexOf(name);
        return at < 0 ? Double.NaN : values[at];
    }

    @Override
    public synchronized double remove(String name) {
        double value = get(name);
        Map<String, Number> kept = asMap();
        names = new ArrayList<>();
        kept.forEach((key, number) -> {
            if (!key.equals(name))
                put(key, number.doubleValue());
        });
        return value;
    }

    Map<String, Number> asMap() {
        Map<String, Number> map = new LinkedHashMap<>();
        for (int i = 0; i < names.size(); i++)
            map.put(names.get(i), values[i]);
        return map;
    }

    @Override
    public synchronized void close() {
        values = Arrays.copyOf(values, names.size());
        synchronized (POOL) {
            names = POOL.computeIfAbsent(names, same -> same);
        }
    }
}
