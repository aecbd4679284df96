package qupath.ext.cytolite.gui;

import java.io.File;

import javafx.scene.control.ComboBox;
import javafx.util.StringConverter;

/** Shows the folder of a model by its name. */
final class ModelNames extends StringConverter<String> {
    static void show(ComboBox<String> models) {
        models.setConverter(new ModelNames());
    }

    @Override
    public String toString(String model) {
        return model != null && new File(model).isAbsolute() ? new File(model).getName() + "  (your own)" : model;
    }

    @Override
    public String fromString(String shown) {
        throw new UnsupportedOperationException("nobody types here");
    }
}
