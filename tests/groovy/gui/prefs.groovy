package qupath.lib.gui.prefs

class PathPrefs {
    static class Property {
        String value
        String get() { value }
        void set(String value) { this.value = value }
    }
    private static final Property STARTUP = new Property()
    static Property startupScriptProperty() { STARTUP }
}
