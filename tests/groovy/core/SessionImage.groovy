import qupath.lib.images.ImageData
import qupath.lib.images.servers.FileServer
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.images.servers.TurnedServer

/** An open image; the one thing that is made in another way with QuPath's own classes. */
class SessionImage {
    static ImageData open(Map given) {
        def server = new FileServer(
            uri: new URI(given.uri as String), width: given.width as int, height: given.height as int,
            pixelCalibration: new PixelCalibration(given.mpp as Double),
            original: new PixelCalibration((given.containsKey('file_mpp') ? given.file_mpp : given.mpp) as Double))
        new ImageData(given.turned ? new TurnedServer(wrapped: server) : server)
    }
}
