package qupath.ext.cytolite.gui;

import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.util.Locale;

import qupath.ext.cytolite.Density;
import qupath.lib.gui.viewer.overlays.PathOverlay;
import qupath.lib.images.ImageData;
import qupath.lib.regions.ImageRegion;

/** A density map over its own image, and over no other that the viewer may show later. */
final class DensityOverlay implements PathOverlay {
    private final ImageData<BufferedImage> image;
    private final String type;
    private final double downsample;
    private final float[][] map;
    private final BufferedImage picture;

    DensityOverlay(ImageData<BufferedImage> image, String type, Density density) {
        this.image = image;
        this.type = type;
        this.downsample = density.downsample;
        this.map = density.map(type);
        this.picture = Density.picture(map, most());
    }

    double most() {
        return Density.most(map);
    }

    @Override
    public void paintOverlay(Graphics2D g2d, ImageRegion imageRegion, double downsampleFactor, ImageData<BufferedImage> imageData, boolean paintCompletely) {
        if (imageData == image)
            g2d.drawImage(picture, 0, 0, (int) Math.round(picture.getWidth() * downsample), (int) Math.round(picture.getHeight() * downsample), null);
    }

    /** What QuPath shows of the place under the mouse. */
    @Override
    public String getLocationString(ImageData<BufferedImage> imageData, double x, double y, int z, int t) {
        int column = (int) Math.floor(x / downsample), row = (int) Math.floor(y / downsample);
        if (imageData != image || row < 0 || row >= map.length || column < 0 || column >= map[row].length)
            return null;
        return String.format(Locale.US, "%s: %,.0f per mm\u00b2", type, map[row][column]);
    }
}
