package qupath.lib.regions

import groovy.transform.CompileStatic

@CompileStatic
class ImagePlane {
    private static final ImagePlane DEFAULT = new ImagePlane(0, 0)
    private final int z, t
    private ImagePlane(int z, int t) {
        this.z = z
        this.t = t
    }
    static ImagePlane getDefaultPlane() { DEFAULT }
    static ImagePlane getPlane(int z, int t) { new ImagePlane(z, t) }
    int getZ() { z }
    int getT() { t }
}
