package qupath.lib.objects;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public abstract class PathObject {
    private MeasurementList measurements;
    private PathObject parent;
    private final Set<PathObject> children = new LinkedHashSet<>();

    public abstract PathClass getPathClass();

    public abstract void setPathClass(PathClass pathClass);

    public abstract ROI getROI();

    public abstract String getName();

    public abstract void setName(String name);

    public boolean isAnnotation() {
        return false;
    }

    public boolean isDetection() {
        return false;
    }

    public boolean isCell() {
        return false;
    }

    public boolean hasROI() {
        return getROI() != null;
    }

    public synchronized MeasurementList getMeasurementList() {
        if (measurements == null)
            measurements = new ListOfMeasurements();
        return measurements;
    }

    public Map<String, Number> getMeasurements() {
        return ((ListOfMeasurements) getMeasurementList()).asMap();
    }

    public PathObject getParent() {
        return parent;
    }

    public Collection<PathObject> getChildObjects() {
        return Collections.unmodifiableCollection(children);
    }

    public synchronized void addChildObjects(Collection<? extends PathObject> objects) {
        for (PathObject object : new ArrayList<>(objects)) {
            if (object.parent != null)
                object.parent.children.remove(object);
            object.parent = this;
            children.add(object);
        }
    }

    public synchronized void removeChildObjects(Collection<PathObject> objects) {
        for (PathObject object : objects)
            if (object.parent == this)
                object.parent = null;
        children.removeAll(objects);
    }

    public void clearChildObjects() {
        children.forEach(child -> child.parent = null);
        children.clear();
    }
}
