package qupath.lib.measurements

import groovy.transform.CompileStatic

/** As QuPath's lists of numbers: floats, and names that are shared once a list is closed. */
@CompileStatic
class MeasurementList implements AutoCloseable {
    private static final Map<List<String>, List<String>> POOL = new HashMap<>()
    private List<String> names = new ArrayList<>(16)
    private float[] values = new float[16]

    synchronized void put(String name, double value) {
        int at = names.indexOf(name)
        if (at < 0) {
            names = new ArrayList<>(names)
            names.add(name)
            at = names.size() - 1
            if (at >= values.length)
                values = Arrays.copyOf(values, 2 * at)
        }
        values[at] = (float) value
    }
    synchronized double get(String name) {
        int at = names.indexOf(name)
        at < 0 ? Double.NaN : (double) values[at]
    }
    synchronized double remove(String name) {
        double value = get(name)
        def kept = asMap()
        names = new ArrayList<>()
        kept.each { String key, Number number -> if (key != name) put(key, number.doubleValue()) }
        value
    }
    Map<String, Number> asMap() {
        Map<String, Number> map = new LinkedHashMap<>()
        names.eachWithIndex { String name, int i -> map.put(name, (Number) values[i]) }
        map
    }
    synchronized void close() {
        values = Arrays.copyOf(values, names.size())
        synchronized (POOL) { names = POOL.computeIfAbsent(names) { it } }
    }
}
