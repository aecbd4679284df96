import qupath.lib.images.ImageData
import qupath.lib.images.servers.FileServer
import qupath.lib.projects.Project
import qupath.lib.scripting.QP

/** An open image; what is made in another way with QuPath's own classes. */
class SessionImage {
    static ImageData open(Map given) {
        def mpp = given.mpp as Double
        def fileMpp = (given.containsKey('file_mpp') ? given.file_mpp : given.mpp) as Double
        new ImageData(FileServer.open(new URI(given.uri as String), given.width as int, given.height as int, mpp, fileMpp, given.turned as boolean))
    }

    static void show(ImageData image, Project project) { QP.setBatchProjectAndImage(project, image) }
}
