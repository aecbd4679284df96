package qupath.ext.cytolite.gui;

import java.awt.image.BufferedImage;
import java.util.Locale;

import javafx.geometry.Insets;
import javafx.geometry.Pos;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.ChoiceBox;
import javafx.scene.control.Label;
import javafx.scene.image.ImageView;
import javafx.scene.image.WritableImage;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;

import qupath.ext.cytolite.Density;
import qupath.ext.cytolite.Outcome;
import qupath.ext.cytolite.Stop;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;

/** Lays the density map of one type over the open image for as long as this window is open. */
final class DensityWindow {
    private static final int LEGEND_PX = 220;
    private final Stage stage = new Stage();
    private final QuPathViewer viewer;
    private final ImageData<BufferedImage> image;
    private final Density density;
    private final ChoiceBox<String> type = new ChoiceBox<>();
    private final Label most = new Label();
    private DensityOverlay shown;

    DensityWindow(QuPathGUI gui, Density density) {
        this.viewer = gui.getViewer();
        this.image = gui.getImageData();
        this.density = density;
        type.getItems().setAll(density.types);
        type.valueProperty().addListener(it -> lay());
        Button close = new Button("Close, and take the map away");
        close.setOnAction(event -> stage.close());
        HBox legend = new HBox(8, new Label("0"), new ImageView(legend()), most);
        HBox buttons = new HBox(close);
        buttons.setAlignment(Pos.CENTER_RIGHT);
        most.setWrapText(true);
        legend.setMaxWidth(420);
        legend.setAlignment(Pos.CENTER_LEFT);
        HBox row = new HBox(8, new Label("Nuclei of type"), type);
        row.setAlignment(Pos.CENTER_LEFT);
        Label notice = new Label("Reports with intervals are beside the map, in the folder spatial of the result. " + Outcome.NOTICE);
        notice.setWrapText(true);
        notice.setMaxWidth(420);
        VBox box = new VBox(12, row, legend, notice, buttons);
        box.setPadding(new Insets(14));
        stage.initOwner(gui.getStage());
        stage.setTitle("cytolite: density map");
        stage.setScene(new Scene(box));
        stage.setOnHidden(event -> viewer.getCustomOverlayLayers().remove(shown));
    }

    void show() {
        type.getSelectionModel().select(0);
        stage.show();
    }

    private void lay() {
        viewer.getCustomOverlayLayers().remove(shown);
        try {
            shown = new DensityOverlay(image, type.getValue(), density);
            viewer.getCustomOverlayLayers().add(shown);
            most.setText(shown.most() > 0 ? String.format(Locale.US, "%,.0f per mm\u00b2", shown.most()) : "there are none");
        } catch (Stop stop) {
            most.setText(stop.getMessage());
        }
    }

    private static WritableImage legend() {
        WritableImage image = new WritableImage(LEGEND_PX, 14);
        for (int x = 0; x < LEGEND_PX; x++)
            for (int y = 0; y < 14; y++)
                image.getPixelWriter().setArgb(x, y, Density.colour((x + 1.0) / LEGEND_PX));
        return image;
    }
}
