package qupath.lib.objects.classes

import groovy.transform.CompileStatic

/** One object for each name; a class that is known keeps its colour. */
@CompileStatic
class PathClass {
    private static final Map<String, PathClass> KNOWN = new HashMap<>()
    private final String name
    private Integer color

    private PathClass(String name, Integer color) {
        this.name = name
        this.color = color
    }
    static synchronized PathClass fromString(String name, Integer color = null) {
        KNOWN.computeIfAbsent(name) { new PathClass(name, color) }
    }
    Integer getColor() { color }
    void setColor(Integer color) { this.color = color }
    String getName() { name }
    String toString() { name }
}
