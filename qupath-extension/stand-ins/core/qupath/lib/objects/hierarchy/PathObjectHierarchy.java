package qupath.lib.objects.hierarchy;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

import qupath.lib.objects.PathObject;
import qupath.lib.objects.SimpleObject;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

public final class PathObjectHierarchy {
    private final PathObject root = new SimpleObject(SimpleObject.Kind.ROOT, null, null, null);
    private final PathObjectSelectionModel selection = new PathObjectSelectionModel();
    private int events = 0;

    public PathObject getRootObject() {
        return root;
    }

    public PathObjectSelectionModel getSelectionModel() {
        return selection;
    }

    public synchronized boolean addObjects(Collection<? extends PathObject> objects) {
        root.addChildObjects(objects);
        fireHierarchyChangedEvent(this);
        return true;
    }

    public synchronized void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) {
        for (PathObject object : objects) {
            PathObject parent = object.getParent();
            if (parent == null)
                continue;
            parent.removeChildObjects(List.of(object));
            if (keepChildren)
                parent.addChildObjects(object.getChildObjects());
        }
        fireHierarchyChangedEvent(this);
    }

    public Collection<PathObject> getAnnotationObjects() {
        return below(root, new ArrayList<>()).stream().filter(PathObject::isAnnotation).toList();
    }

    public Collection<PathObject> getDetectionObjects() {
        return below(root, new ArrayList<>()).stream().filter(PathObject::isDetection).toList();
    }

    public void fireHierarchyChangedEvent(Object source) {
        events++;
    }

    /** How often listeners were told. */
    public int events() {
        return events;
    }

    private static List<PathObject> below(PathObject object, List<PathObject> found) {
        for (PathObject child : object.getChildObjects()) {
            found.add(child);
            below(child, found);
        }
        return found;
    }
}
