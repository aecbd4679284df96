package qupath.lib.images.servers;

public class ImageServerMetadata {
    private final PixelCalibration size;

    public ImageServerMetadata(PixelCalibration size) {
        this.size = size;
    }

    public PixelCalibration getPixelCalibration() {
        return size;
    }
}
