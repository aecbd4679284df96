package qupath.lib.images

import groovy.transform.CompileStatic
import qupath.lib.images.servers.ImageServer
import qupath.lib.objects.hierarchy.PathObjectHierarchy

@CompileStatic
class ImageData<T> {
    private final ImageServer<T> server
    private final PathObjectHierarchy hierarchy = new PathObjectHierarchy()
    ImageData(ImageServer<T> server) { this.server = server }
    ImageServer<T> getServer() { server }
    PathObjectHierarchy getHierarchy() { hierarchy }
}
