package qupath.lib.gui.prefs;

import java.util.HashMap;
import java.util.Map;

import javafx.beans.property.SimpleStringProperty;
import javafx.beans.property.StringProperty;

public class PathPrefs {
    private static final Map<String, StringProperty> KEPT = new HashMap<>();

    public static StringProperty createPersistentPreference(String name, String value) {
        return KEPT.computeIfAbsent(name, it -> new SimpleStringProperty(null, it, value));
    }
}
