package qupath.lib.common;

public final class ColorTools {
    public static int packRGB(int r, int g, int b) {
        return 255 << 24 | r << 16 | g << 8 | b;
    }
}
