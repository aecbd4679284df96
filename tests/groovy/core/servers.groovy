package qupath.lib.images.servers

import groovy.transform.CompileStatic

interface ImageServer<T> {
    Collection<URI> getURIs()
    int getWidth()
    int getHeight()
    ImageServerMetadata getOriginalMetadata()
    PixelCalibration getPixelCalibration()
}

abstract class TransformingImageServer<T> implements ImageServer<T> { }

@CompileStatic
class ImageServerMetadata {
    final PixelCalibration pixelCalibration
    ImageServerMetadata(PixelCalibration pixelCalibration) { this.pixelCalibration = pixelCalibration }
}

@CompileStatic
class PixelCalibration {
    private final Double um
    PixelCalibration(Double um) { this.um = um }
    boolean hasPixelSizeMicrons() { um != null }
    double getAveragedPixelSizeMicrons() { um == null ? Double.NaN : um.doubleValue() }
}

@CompileStatic
class FileServer implements ImageServer<Object> {
    URI uri
    int width, height
    PixelCalibration pixelCalibration, original
    Collection<URI> getURIs() { [uri] }
    ImageServerMetadata getOriginalMetadata() { new ImageServerMetadata(original) }
}

@CompileStatic
class TurnedServer extends TransformingImageServer<Object> {
    @Delegate FileServer wrapped
}
