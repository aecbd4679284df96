import groovy.transform.CompileStatic
import javafx.application.Platform
import qupath.lib.images.ImageData
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.images.servers.TransformingImageServer
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project
import qupath.lib.scripting.QP

import java.nio.file.Files
import java.nio.file.Paths
import java.text.SimpleDateFormat

/** From the annotations of the open image to the cells under them. */
@CompileStatic
class CytoliteRun {
    static final String NOTICE = 'For research use only; not for diagnosis.'

    private final ImageData<?> image
    private final Project<?> project
    private final CytoliteScreen screen

    private CytoliteRun(ImageData<?> image, Project<?> project, CytoliteScreen screen) {
        this.image = image
        this.project = project
        this.screen = screen
    }

    /** What the menu's "Find nuclei" does. `options` go to `cytolite segment`; with any, the server is not asked. */
    static void findNuclei(String python, List<String> options) {
        guarded { CytoliteRun run -> run.find(python, options) }
    }

    /** What the menu's "Import a result" does; asks for the file where none is given. */
    static void importResult(String path) {
        guarded { CytoliteRun run -> run.bringIn(path) }
    }

    private static void guarded(Closure work) {
        def screen = CytoliteScreen.of(QP.getCurrentImageData())
        def run = new CytoliteRun(QP.getCurrentImageData(), QP.getProject(), screen)
        def safely = {
            try {
                if (run.image == null)
                    throw new CytoliteStop('Open a slide first.')
                work.call(run)
            } catch (CytoliteStop stop) {
                screen.fail(stop)
            } finally {
                screen.end()
            }
        }
        // The window must not freeze while the work goes on. A script that the editor runs has a thread of its own.
        if (screen instanceof CytoliteWindow && Platform.isFxApplicationThread())
            Thread.start(safely)
        else
            safely.call()
    }

    private void find(String python, List<String> options) {
        def slide = slideFile()
        def regions = chosenRegions()
        def began = System.nanoTime()
        def output = newFolder()
        boolean keep = false
        try {
            def roi = regions.first().isWholeImage() ? null : new File(output, 'regions.geojson')
            if (roi != null)
                CytoliteRegion.write(regions, roi)
            screen.begin("Finding nuclei in ${describe(regions)}")
            def folder = work(python, options, slide, roi, output)
            def result = new CytoliteResult(new File(folder, 'cells.geojson.gz'), screen)
            result.requireSize(image.getServer())
            int n = result.addTo(image.getHierarchy(), regions)
            keep = project != null
            def seconds = String.format(Locale.US, '%,d nuclei in %s, %.1f s.', n, describe(regions), (System.nanoTime() - began) / 1e9d)
            screen.tell((keep ? "$seconds Tables are in $folder. $NOTICE" : "$seconds $NOTICE") + result.warnings())
        } finally {
            if (!keep)
                output.deleteDir()
        }
    }

    private void bringIn(String path) {
        def file = path ? new File(path) : screen.chooseFile()
        if (file == null)
            return
        screen.begin("Reading $file")
        def result = new CytoliteResult(file, screen)
        result.requireSize(image.getServer())
        def names = result.regionNames()
        def named = CytoliteRegion.named(areas(image.getHierarchy().getAnnotationObjects())).findAll { it.name in names }
        def regions = names ? named : [CytoliteRegion.wholeImage(image.getHierarchy().getRootObject())]
        int n = result.addTo(image.getHierarchy(), regions)
        screen.tell(String.format(Locale.US, '%,d nuclei in %s. %s', n, describe(regions), NOTICE) + result.warnings())
    }

    /** By the server where one runs, else by a process. */
    private File work(String python, List<String> options, File slide, File roi, File output) {
        def mpp = mppOfUser()
        def server = options ? null : CytoliteServer.find(screen)
        if (server == null)
            screen.log(options ? 'Options are given, so a process does the work' : 'No server runs, so a process does the work')
        try {
            return work(server, python, options, slide, roi, mpp, output)
        } catch (CytoliteStop stop) {
            // The file does not say its resolution, but QuPath knows it.
            def known = image.getServer().getPixelCalibration()
            if (stop.cancelled || mpp != null || !known.hasPixelSizeMicrons() || !stop.message.contains('--mpp'))
                throw stop
            screen.log("${stop.message} QuPath says ${known.getAveragedPixelSizeMicrons()}, so that is used")
            return work(server, python, options, slide, roi, known.getAveragedPixelSizeMicrons(), output)
        }
    }

    private File work(CytoliteServer server, String python, List<String> options, File slide, File roi, Double mpp, File output) {
        def job = server?.submit(slide, roi, mpp)
        job != null ? server.await(job, output) : new CytoliteProcess(python, options, screen).run(slide, roi, mpp, output)
    }

    /** The one file behind the image, from a URI with %20, accents or a drive letter. */
    private File slideFile() {
        if (image.getServer() instanceof TransformingImageServer)
            throw new CytoliteStop('This image is a changed view of its file (cropped, turned, recoloured); open the file itself.')
        def uris = image.getServer().getURIs()
        if (uris.size() != 1 || uris.first().getScheme() != 'file')
            throw new CytoliteStop("cytolite reads one file of this computer, and this image is ${uris ?: 'none'}.")
        def uri = uris.first()
        // A fragment or a query says which image of the file is meant; it is no part of the path.
        try {
            return Paths.get(new URI(uri.getScheme(), uri.getAuthority(), uri.getPath(), null, null)).toFile()
        } catch (IllegalArgumentException problem) {
            throw new CytoliteStop("The path of the image, $uri, cannot be used (${problem.message}).")
        }
    }

    /** The selected annotations, else all, else the whole image if the user agrees. */
    private List<CytoliteRegion> chosenRegions() {
        def hierarchy = image.getHierarchy()
        def selected = hierarchy.getSelectionModel().getSelectedObjects().findAll { it.isAnnotation() }
        def annotations = areas(selected ?: hierarchy.getAnnotationObjects())
        if (annotations)
            return CytoliteRegion.named(annotations)
        if (selected)
            throw new CytoliteStop('The selected annotations are points or lines; select areas.')
        if (screen.ask('No area is annotated. Find the nuclei of the whole image? This can take long.'))
            return [CytoliteRegion.wholeImage(hierarchy.getRootObject())]
        throw new CytoliteStop('No area is annotated; draw a region and run this again.')
    }

    private static List<PathObject> areas(Collection<PathObject> annotations) {
        annotations.findAll { it.hasROI() && it.getROI().isArea() && !it.getROI().isEmpty() }.toList()
    }

    /** The um/px that the user gave to QuPath; null where it is what the file says. */
    private Double mppOfUser() {
        PixelCalibration now = image.getServer().getPixelCalibration()
        PixelCalibration first = image.getServer().getOriginalMetadata().getPixelCalibration()
        if (!now.hasPixelSizeMicrons())
            return null
        double mpp = now.getAveragedPixelSizeMicrons()
        first.hasPixelSizeMicrons() && Math.abs(first.getAveragedPixelSizeMicrons() - mpp) < 1e-6 * mpp ? null : mpp
    }

    /** In the project's folder, where the tables stay; else a temporary one. */
    private File newFolder() {
        try {
            if (project?.getPath() == null)
                return Files.createTempDirectory('cytolite-').toFile()
            def now = new SimpleDateFormat('yyyy-MM-dd_HH.mm.ss.SSS').format(new Date())
            return Files.createDirectories(project.getPath().resolveSibling('cytolite').resolve(now)).toFile()
        } catch (IOException problem) {
            throw new CytoliteStop("No folder for the result can be made (${problem.message}).")
        }
    }

    private static String describe(List<CytoliteRegion> regions) {
        if (regions && regions.first().isWholeImage())
            return 'the whole image'
        regions.size() == 1 ? "the region '${regions.first().name}'" : "${regions.size()} regions"
    }
}
