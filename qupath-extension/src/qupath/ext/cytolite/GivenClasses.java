package qupath.ext.cytolite;

import java.util.Collection;
import java.util.HashMap;
import java.util.Map;

import qupath.lib.objects.PathObject;

/**
 * Which class cytolite gave a cell, as far as the cell's probabilities tell: the likeliest type has a class of the same
 * name, or, where a model names its classes otherwise, the one that most of the type's cells have.
 */
final class GivenClasses {
    static final String PROBABILITY = "p_";
    private final Map<String, String> classOfType = new HashMap<>();

    GivenClasses(Collection<PathObject> cells) {
        Map<String, Map<String, Integer>> votes = new HashMap<>();
        for (PathObject cell : cells) {
            String type = likeliest(cell);
            if (type != null)
                votes.computeIfAbsent(type, name -> new HashMap<>()).merge(String.valueOf(cell.getPathClass()), 1, Integer::sum);
        }
        votes.forEach((type, classes) -> classOfType.put(type, classes.keySet().stream().filter(type::equalsIgnoreCase).findFirst()
            .orElseGet(() -> classes.entrySet().stream().max(Map.Entry.comparingByValue()).orElseThrow().getKey())));
    }

    /** Whether somebody gave it another class; false where the probabilities were not kept. */
    boolean isChanged(PathObject cell) {
        String type = likeliest(cell);
        return type != null && !classOfType.get(type).equals(String.valueOf(cell.getPathClass()));
    }

    boolean know(PathObject cell) {
        return likeliest(cell) != null;
    }

    /** The type of the highest probability; null without any. */
    static String likeliest(PathObject cell) {
        String best = null;
        double most = -1;
        for (Map.Entry<String, Number> each : cell.getMeasurements().entrySet())
            if (each.getKey().startsWith(PROBABILITY) && each.getValue().doubleValue() > most) {
                most = each.getValue().doubleValue();
                best = each.getKey().substring(PROBABILITY.length());
            }
        return best;
    }
}
