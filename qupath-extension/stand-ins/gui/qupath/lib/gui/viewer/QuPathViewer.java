package qupath.lib.gui.viewer;

import javafx.collections.FXCollections;
import javafx.collections.ObservableList;

import qupath.lib.gui.viewer.overlays.PathOverlay;

/** Where an image is shown, with what lies over it. */
public class QuPathViewer {
    private final ObservableList<PathOverlay> overlays = FXCollections.observableArrayList();

    public ObservableList<PathOverlay> getCustomOverlayLayers() {
        return overlays;
    }
}
