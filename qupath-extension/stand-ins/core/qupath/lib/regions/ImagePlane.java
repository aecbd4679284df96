package qupath.lib.regions;

public class ImagePlane {
    private static final ImagePlane DEFAULT = new ImagePlane();

    public static ImagePlane getDefaultPlane() {
        return DEFAULT;
    }
}
