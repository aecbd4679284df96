package qupath.lib.images.servers;

import java.net.URI;
import java.util.Collection;
import java.util.List;

/** An image that is one file; `turned` is a changed view of it. */
public final class FileServer extends TransformingImageServer<java.awt.image.BufferedImage> {
    private final URI uri;
    private final int width, height;
    private final PixelCalibration now, original;

    private FileServer(URI uri, int width, int height, Double mpp, Double fileMpp) {
        this.uri = uri;
        this.width = width;
        this.height = height;
        this.now = new PixelCalibration(mpp);
        this.original = new PixelCalibration(fileMpp);
    }

    public static ImageServer<java.awt.image.BufferedImage> open(URI uri, int width, int height, Double mpp, Double fileMpp, boolean turned) {
        FileServer server = new FileServer(uri, width, height, mpp, fileMpp);
        return turned ? server : new Plain(server);
    }

    /** The same without being a TransformingImageServer. */
    private record Plain(FileServer file) implements ImageServer<java.awt.image.BufferedImage> {
        @Override
        public Collection<URI> getURIs() {
            return file.getURIs();
        }

        @Override
        public int getWidth() {
            return file.width;
        }

        @Override
        public int getHeight() {
            return file.height;
        }

        @Override
        public ImageServerMetadata getOriginalMetadata() {
            return file.getOriginalMetadata();
        }

        @Override
        public PixelCalibration getPixelCalibration() {
            return file.now;
        }

        @Override
        public void close() { }
    }

    @Override
    public Collection<URI> getURIs() {
        return List.of(uri);
    }

    @Override
    public int getWidth() {
        return width;
    }

    @Override
    public int getHeight() {
        return height;
    }

    @Override
    public ImageServerMetadata getOriginalMetadata() {
        return new ImageServerMetadata(original);
    }

    @Override
    public PixelCalibration getPixelCalibration() {
        return now;
    }

    @Override
    public void close() { }
}
