package qupath.lib.objects.hierarchy.events;

import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.Set;

import qupath.lib.objects.PathObject;

public class PathObjectSelectionModel {
    private Set<PathObject> selected = new LinkedHashSet<>();

    public Set<PathObject> getSelectedObjects() {
        return Collections.unmodifiableSet(selected);
    }

    public void setSelectedObjects(Collection<? extends PathObject> objects, PathObject main) {
        selected = new LinkedHashSet<>(objects);
    }
}
