package qupath.lib.gui.viewer.overlays;

import java.awt.Graphics2D;
import java.awt.image.BufferedImage;

import qupath.lib.images.ImageData;
import qupath.lib.regions.ImageRegion;

public interface PathOverlay {
    void paintOverlay(Graphics2D g2d, ImageRegion imageRegion, double downsampleFactor, ImageData<BufferedImage> imageData, boolean paintCompletely);

    default String getLocationString(ImageData<BufferedImage> imageData, double x, double y, int z, int t) {
        return null;
    }
}
