package qupath.lib.common;

public class Version {
    private final String text;

    private Version(String text) {
        this.text = text;
    }

    public static Version parse(String text) {
        return new Version(text);
    }

    @Override
    public String toString() {
        return text;
    }
}
