package qupath.lib.images.servers;

public class PixelCalibration {
    private final Double um;

    public PixelCalibration(Double um) {
        this.um = um;
    }

    public boolean hasPixelSizeMicrons() {
        return um != null;
    }

    public double getAveragedPixelSizeMicrons() {
        return um == null ? Double.NaN : um;
    }
}
