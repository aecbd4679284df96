package qupath.lib.scripting;

import java.awt.image.BufferedImage;

import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

public class QP {
    private static ImageData<BufferedImage> image;
    private static Project<BufferedImage> project;

    public static void setBatchProjectAndImage(Project<BufferedImage> project, ImageData<BufferedImage> image) {
        QP.project = project;
        QP.image = image;
    }

    public static ImageData<BufferedImage> getCurrentImageData() {
        return image;
    }

    public static Project<BufferedImage> getProject() {
        return project;
    }
}
