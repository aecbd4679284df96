package qupath.lib.images;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.Workflow;

public class ImageData<T> {
    private final ImageServer<T> server;
    private final PathObjectHierarchy hierarchy = new PathObjectHierarchy();
    private final Workflow workflow = new Workflow();

    public ImageData(ImageServer<T> server) {
        this.server = server;
    }

    public ImageServer<T> getServer() {
        return server;
    }

    public PathObjectHierarchy getHierarchy() {
        return hierarchy;
    }

    public Workflow getHistoryWorkflow() {
        return workflow;
    }
}
