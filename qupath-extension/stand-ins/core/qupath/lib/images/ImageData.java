package qupath.lib.images;

import java.util.HashMap;
import java.util.Map;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.Workflow;

public class ImageData<T> {
    private final ImageServer<T> server;
    private final PathObjectHierarchy hierarchy = new PathObjectHierarchy();
    private final Workflow workflow = new Workflow();
    private final Map<String, Object> properties = new HashMap<>();

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

    public Object getProperty(String key) {
        return properties.get(key);
    }

    public Object setProperty(String key, Object value) {
        return properties.put(key, value);
    }
}
