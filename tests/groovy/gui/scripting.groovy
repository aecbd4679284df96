package qupath.lib.scripting

import qupath.lib.images.ImageData
import qupath.lib.projects.Project

class QP {
    static ImageData<?> currentImageData
    static Project<?> project
}
