package qupath.lib.objects.hierarchy

import groovy.transform.CompileStatic
import qupath.lib.objects.PathObject

@CompileStatic
class PathObjectHierarchy {
    private final PathObject root = new PathObject(PathObject.Kind.ROOT, null, null)
    private final PathObjectSelectionModel selection = new PathObjectSelectionModel()
    int events = 0

    PathObject getRootObject() { root }
    PathObjectSelectionModel getSelectionModel() { selection }
    boolean addObjects(Collection<? extends PathObject> objects) {
        root.addChildObjects(objects)
        fireHierarchyChangedEvent(this)
        true
    }
    void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) {
        assert keepChildren
        objects.groupBy { PathObject it -> it.getParent() }.each { PathObject parent, List<PathObject> some -> parent?.removeChildObjects(some) }
        fireHierarchyChangedEvent(this)
    }
    Collection<PathObject> getAnnotationObjects() { below(root, []).findAll { it.isAnnotation() } }
    Collection<PathObject> getDetectionObjects() { below(root, []).findAll { it.isDetection() } }
    void fireHierarchyChangedEvent(Object source) { events++ }

    private static List<PathObject> below(PathObject object, List<PathObject> found) {
        for (PathObject child : object.getChildObjects()) {
            found.add(child)
            below(child, found)
        }
        found
    }
}

@CompileStatic
class PathObjectSelectionModel {
    private Set<PathObject> selected = new LinkedHashSet<>()
    Set<PathObject> getSelectedObjects() { Collections.unmodifiableSet(selected) }
    void setSelectedObjects(Collection<? extends PathObject> objects, PathObject main) { selected = new LinkedHashSet<>(objects) }
}
