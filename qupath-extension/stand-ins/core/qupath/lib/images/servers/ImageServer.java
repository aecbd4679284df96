package qupath.lib.images.servers;

import java.net.URI;
import java.util.Collection;

public interface ImageServer<T> extends AutoCloseable {
    Collection<URI> getURIs();

    int getWidth();

    int getHeight();

    ImageServerMetadata getOriginalMetadata();

    PixelCalibration getPixelCalibration();
}
