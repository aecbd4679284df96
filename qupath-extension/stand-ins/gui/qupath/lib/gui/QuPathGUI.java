package qupath.lib.gui;

import java.awt.image.BufferedImage;

import javafx.beans.property.ReadOnlyObjectProperty;
import javafx.beans.property.SimpleObjectProperty;
import javafx.collections.FXCollections;
import javafx.collections.ObservableList;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuBar;
import javafx.scene.control.MenuItem;
import javafx.stage.Stage;

import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.projects.Project;

/** As much of QuPath's window as an extension sees: a stage, a menu, an image. */
public class QuPathGUI {
    private static QuPathGUI instance;
    private final Stage stage;
    private final MenuBar menus;
    private final SimpleObjectProperty<ImageData<BufferedImage>> image = new SimpleObjectProperty<>();
    private final ObservableList<PathClass> classes = FXCollections.observableArrayList();
    private final QuPathViewer viewer = new QuPathViewer();
    private Project<BufferedImage> project;

    public QuPathGUI(Stage stage, MenuBar menus) {
        this.stage = stage;
        this.menus = menus;
        instance = this;
    }

    public static QuPathGUI getInstance() {
        return instance;
    }

    public void show(ImageData<BufferedImage> image, Project<BufferedImage> project) {
        this.project = project;
        this.image.set(image);
    }

    public QuPathViewer getViewer() {
        return viewer;
    }

    public Stage getStage() {
        return stage;
    }

    public ReadOnlyObjectProperty<ImageData<BufferedImage>> imageDataProperty() {
        return image;
    }

    public ImageData<BufferedImage> getImageData() {
        return image.get();
    }

    public Project<BufferedImage> getProject() {
        return project;
    }

    public ObservableList<PathClass> getAvailablePathClasses() {
        return classes;
    }

    /** A menu by its path, as in "Extensions>cytolite". */
    public Menu getMenu(String path, boolean create) {
        ObservableList<? extends MenuItem> items = menus.getMenus();
        Menu found = null;
        for (String name : path.split(">")) {
            Menu next = items.stream().filter(it -> it instanceof Menu && it.getText().equals(name)).map(it -> (Menu) it).findFirst().orElse(null);
            if (next == null) {
                next = new Menu(name);
                if (found == null)
                    menus.getMenus().add(next);
                else
                    found.getItems().add(next);
            }
            found = next;
            items = found.getItems();
        }
        return found;
    }
}
