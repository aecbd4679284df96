package qupath.lib.objects.classes;

import java.util.HashMap;
import java.util.Map;

/** One object for each name; a class that is known keeps its colour. */
public final class PathClass {
    private static final Map<String, PathClass> KNOWN = new HashMap<>();
    private final String name;
    private final Integer colour;

    private PathClass(String name, Integer colour) {
        this.name = name;
        this.colour = colour;
    }

    public static synchronized PathClass fromString(String name, Integer colour) {
        return KNOWN.computeIfAbsent(name, it -> new PathClass(it, colour));
    }

    public Integer getColor() {
        return colour;
    }

    public String getName() {
        return name;
    }

    @Override
    public String toString() {
        return name;
    }
}
