package qupath.ext.cytolite;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.text.SimpleDateFormat;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.Date;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;

import qupath.lib.images.ImageData;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.images.servers.TransformingImageServer;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.projects.Project;

/** From the annotations of an image to the cells under them. */
public final class Run {
    /** In less the start takes longer than the work, and a speed would say nothing. */
    private static final double SHORTEST_MEASURED_S = 10;
    private static final Set<ImageData<?>> AT_WORK = Collections.synchronizedSet(Collections.newSetFromMap(new IdentityHashMap<>()));

    private final ImageData<?> image;
    private final Project<?> project;
    private final Screen screen;

    public Run(ImageData<?> image, Project<?> project, Screen screen) {
        this.image = image;
        this.project = project;
        this.screen = screen;
    }

    /** Find the nuclei, in this thread; what happens is on the screen. */
    public void findNuclei(String python, Request request) {
        alone(() -> find(python, request));
    }

    /** Bring in a cells.geojson.gz, in this thread. */
    public void importResult(File cells, Request request) {
        alone(() -> bringIn(cells, request));
    }

    /** Count again what lies in each annotation, after cells were deleted, renamed or regions redrawn. */
    public void measureAgain() {
        alone(this::measure);
    }

    /** One piece of work per image at a time; its end, good or bad, is told. */
    private void alone(Runnable work) {
        boolean mine = false;
        try {
            if (image == null)
                throw new Stop("Open a slide first.");
            mine = AT_WORK.add(image);
            if (!mine)
                throw new Stop("cytolite is at work on this image already; wait for it, or cancel it.");
            work.run();
        } catch (Stop stop) {
            screen.fail(stop);
        } finally {
            if (mine)
                AT_WORK.remove(image);
            screen.end();
        }
    }

    public static boolean isAtWorkOn(ImageData<?> image) {
        return AT_WORK.contains(image);
    }

    private void find(String python, Request request) {
        List<Region> regions = regions(image.getHierarchy(), request);
        if (regions.isEmpty()) {
            // In a batch no reason to fail, and never a reason to work on a whole slide.
            screen.warn("No area is annotated in this image, so there is nothing to do; draw a region, or ask for the whole image.");
            return;
        }
        File slide = slideFile();
        long began = System.nanoTime();
        File output = newFolder();
        boolean keep = false;
        try {
            File roi = regions.get(0).isWholeImage() ? null : new File(output, "regions.geojson");
            if (roi != null)
                Region.write(regions, roi.toPath());
            screen.begin("Finding nuclei in " + Region.describe(regions));
            File folder = work(python, request, slide, roi, output);
            Result result = new Result(new File(folder, "cells.geojson.gz"), screen);
            result.requireSize(image.getServer());
            Map<String, Integer> counts = result.addTo(image.getHierarchy(), regions, request);
            keep = project != null && project.getPath() != null;
            addStep("cytolite: find nuclei", request.parameters(), request.script());
            Outcome outcome = outcome(result, regions, counts, began, keep ? folder : null);
            if (outcome.seconds() > SHORTEST_MEASURED_S && outcome.tissueMm2() > 0)
                screen.measured(request, outcome.tissueMm2() / outcome.seconds());
            screen.done(outcome);
        } catch (UncheckedIOException problem) {
            throw new Stop("The regions cannot be written to " + output + " (" + problem.getCause().getMessage() + ").");
        } finally {
            if (!keep)
                delete(output.toPath());
        }
    }

    private void bringIn(File cells, Request request) {
        long began = System.nanoTime();
        screen.begin("Reading " + cells);
        Result result = new Result(cells, screen);
        result.requireSize(image.getServer());
        List<String> names = result.regionNames();
        PathObjectHierarchy hierarchy = image.getHierarchy();
        List<Region> regions = names.isEmpty() ? List.of(Region.wholeImage(hierarchy.getRootObject()))
            : Region.named(Region.areas(hierarchy.getAnnotationObjects())).stream().filter(it -> names.contains(it.name)).toList();
        Map<String, Integer> counts = result.addTo(hierarchy, regions, request);
        addStep("cytolite: import a result", Map.of("file", cells.getPath()),
            "qupath.ext.cytolite.Cytolite.importResult(" + Request.literal(cells.getPath()) + ")");
        screen.done(outcome(result, regions, counts, began, cells.getAbsoluteFile().getParentFile()));
    }

    private void measure() {
        long began = System.nanoTime();
        PathObjectHierarchy hierarchy = image.getHierarchy();
        List<Region> regions = regions(hierarchy, Request.DEFAULT);
        if (regions.isEmpty())
            throw new Stop("No area is annotated; draw a region, or select one.");
        screen.begin("Counting in " + Region.describe(regions));
        List<PathObject> cells = hierarchy.getDetectionObjects().stream().filter(it -> Cells.TAG.equals(it.getName())).toList();
        if (cells.isEmpty())
            throw new Stop("The image has no cells of cytolite yet; run Find nuclei, or import a result.");
        PixelCalibration size = image.getServer().getPixelCalibration();
        double mm2PerPx = size.hasPixelSizeMicrons() ? Math.pow(size.getAveragedPixelSizeMicrons() / 1000, 2) : Double.NaN;
        Map<String, Integer> total = new TreeMap<>();
        double area = 0;
        for (Region region : regions) {
            screen.check();
            Map<String, Integer> counts = new TreeMap<>();
            cells.stream().filter(it -> Result.holds(region, it))
                .forEach(it -> counts.merge(String.valueOf(it.getPathClass()), 1, Integer::sum));
            counts.forEach((type, n) -> total.merge(type, n, Integer::sum));
            double mm2 = region.roi.getArea() * mm2PerPx;
            area += mm2;
            write(region.parent, counts, mm2);
        }
        hierarchy.fireHierarchyChangedEvent(this);
        addStep("cytolite: measure regions again", Map.of(), "qupath.ext.cytolite.Cytolite.measureAgain()");
        int n = total.values().stream().mapToInt(Integer::intValue).sum();
        screen.done(new Outcome(Region.describe(regions), n, total, area, (System.nanoTime() - began) / 1e9,
            List.of("Densities are per mm\u00b2 of the region as it is drawn, with its glass."), null));
    }

    /** Under other names than those of a run, whose densities are per mm2 of tissue. */
    private static void write(PathObject parent, Map<String, Integer> counts, double mm2) {
        MeasurementList measurements = Result.clear(parent);
        int n = counts.values().stream().mapToInt(Integer::intValue).sum();
        measurements.put(Result.PREFIX + "nuclei", n);
        measurements.put(Result.PREFIX + "nuclei per mm^2 of region", n / mm2);
        counts.forEach((type, count) -> {
            measurements.put(Result.PREFIX + type, count);
            measurements.put(Result.PREFIX + type + " per mm^2 of region", count / mm2);
        });
        measurements.put(Result.PREFIX + "region mm^2", mm2);
        measurements.close();
    }

    /** By the server where one runs that suits, else by a process. */
    private File work(String python, Request request, File slide, File roi, File output) {
        Double mpp = mppOfUser();
        Server server = Server.find(screen);
        String served = server == null ? null : server.model();
        boolean suits = served != null && request.suits(served);
        screen.log(served == null ? "No server runs, so a process does the work"
            : suits ? "The server has " + served + " loaded" : "The server has " + served + " loaded, and another way to work is asked for: a process does it");
        try {
            return work(suits ? server : null, python, request, slide, roi, mpp, output);
        } catch (Stop stop) {
            // The file does not say its resolution, but QuPath knows it.
            PixelCalibration known = image.getServer().getPixelCalibration();
            if (stop.isCancelled() || mpp != null || !known.hasPixelSizeMicrons() || !stop.getMessage().contains("--mpp"))
                throw stop;
            screen.log(stop.getMessage() + " QuPath says " + known.getAveragedPixelSizeMicrons() + ", so that is used");
            return work(suits ? server : null, python, request, slide, roi, known.getAveragedPixelSizeMicrons(), output);
        }
    }

    private File work(Server server, String python, Request request, File slide, File roi, Double mpp, File output) {
        if (server != null) {
            String id = server.submit(request.job(slide, text(roi), mpp));
            if (id != null)
                return server.await(id, output);
        }
        if (python == null)
            throw new Stop("It is not known which Python has cytolite: Extensions > cytolite > Set up, or run `cytolite qupath install`.");
        new LocalProcess(request.command(python, slide, roi, mpp, output), screen).run();
        return LocalProcess.resultBelow(output);
    }

    private static String text(File file) {
        try {
            return file == null ? null : Files.readString(file.toPath());
        } catch (IOException problem) {
            throw new UncheckedIOException(problem);
        }
    }

    /** The one file behind the image, from a URI with %20, accents or a drive letter. */
    private File slideFile() {
        if (image.getServer() instanceof TransformingImageServer)
            throw new Stop("This image is a changed view of its file (cropped, turned, recoloured); open the file itself.");
        Collection<URI> uris = image.getServer().getURIs();
        URI uri = uris.size() == 1 ? uris.iterator().next() : null;
        if (uri == null || !"file".equals(uri.getScheme()))
            throw new Stop("cytolite reads one file of this computer, and this image is " + (uris.isEmpty() ? "none" : uris) + ".");
        // A fragment or a query says which image of the file is meant; it is no part of the path.
        try {
            return Paths.get(new URI(uri.getScheme(), uri.getAuthority(), uri.getPath(), null, null)).toFile();
        } catch (IllegalArgumentException | URISyntaxException problem) {
            throw new Stop("The path of the image, " + uri + ", cannot be used (" + problem.getMessage() + ").");
        }
    }

    /** The selected annotations, else all; or the whole image, if that is asked for. */
    static List<Region> regions(PathObjectHierarchy hierarchy, Request request) {
        if (request.wholeImage())
            return List.of(Region.wholeImage(hierarchy.getRootObject()));
        List<PathObject> selected = hierarchy.getSelectionModel().getSelectedObjects().stream().filter(PathObject::isAnnotation).toList();
        List<PathObject> areas = Region.areas(selected.isEmpty() ? hierarchy.getAnnotationObjects() : selected);
        if (areas.isEmpty() && !selected.isEmpty())
            throw new Stop("The selected annotations are points or lines; select areas.");
        return Region.named(areas);
    }

    /** What a run would work on: the regions in words and their mm2, NaN where the resolution is not known. */
    public static Extent extent(ImageData<?> image, Request request) {
        List<Region> regions = regions(image.getHierarchy(), request);
        double px = regions.stream().mapToDouble(it -> it.isWholeImage()
            ? (double) image.getServer().getWidth() * image.getServer().getHeight() : it.roi.getArea()).sum();
        PixelCalibration size = image.getServer().getPixelCalibration();
        double mm2 = size.hasPixelSizeMicrons() ? px * Math.pow(size.getAveragedPixelSizeMicrons() / 1000, 2) : Double.NaN;
        return new Extent(regions.isEmpty() ? "" : Region.describe(regions), mm2);
    }

    /**
     * What a run would work on.
     *
     * @param where empty if there is nothing
     */
    public record Extent(String where, double mm2) { }

    /** The um/px that the user gave to QuPath; null where it is what the file says. */
    private Double mppOfUser() {
        PixelCalibration now = image.getServer().getPixelCalibration();
        PixelCalibration first = image.getServer().getOriginalMetadata().getPixelCalibration();
        if (!now.hasPixelSizeMicrons())
            return null;
        double mpp = now.getAveragedPixelSizeMicrons();
        return first.hasPixelSizeMicrons() && Math.abs(first.getAveragedPixelSizeMicrons() - mpp) < 1e-6 * mpp ? null : mpp;
    }

    private void addStep(String name, Map<String, String> parameters, String script) {
        image.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep(name, parameters, script));
    }

    private static Outcome outcome(Result result, List<Region> regions, Map<String, Integer> counts, long began, File folder) {
        int n = counts.values().stream().mapToInt(Integer::intValue).sum();
        return new Outcome(Region.describe(regions), n, counts, result.tissueMm2(), (System.nanoTime() - began) / 1e9, result.warnings(), folder);
    }

    /** In the project's folder, where the tables stay; else a temporary one. */
    private File newFolder() {
        try {
            if (project == null || project.getPath() == null)
                return Files.createTempDirectory("cytolite-").toFile();
            String now = new SimpleDateFormat("yyyy-MM-dd_HH.mm.ss.SSS").format(new Date());
            return Files.createDirectories(project.getPath().resolveSibling("cytolite").resolve(now)).toFile();
        } catch (IOException problem) {
            throw new Stop("No folder for the result can be made (" + problem.getMessage() + ").");
        }
    }

    private static void delete(Path folder) {
        try (Stream<Path> all = Files.walk(folder)) {
            for (Path each : all.sorted(Comparator.reverseOrder()).toList())
                Files.delete(each);
        } catch (IOException ignored) {
            // A temporary folder that stays does no harm.
        }
    }
}
