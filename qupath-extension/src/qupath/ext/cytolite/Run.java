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
import java.util.ArrayList;
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
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.projects.Project;

/** From the annotations of an image to the cells under them. */
public final class Run {
    /** In less the start takes longer than the work, and a speed would say nothing. */
    private static final double SHORTEST_MEASURED_S = 10;
    private static final String NO_PYTHON =
        "It is not known which Python has cytolite: Extensions > cytolite > Set up, or run `cytolite qupath install`.";
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

    /**
     * Teach a model the types of the user's labels, in this thread.
     *
     * @param others results of other slides, with their labels
     * @param model  its folder; one that is there is replaced
     */
    public void teach(String python, List<File> others, File model) {
        alone(() -> learn(python, others, model));
    }

    /** Name the cells that are there with another model, in this thread; the slide is not read again. */
    public void nameAgain(String python, String model) {
        alone(() -> rename(python, model));
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
            GivenClasses.remember(image, result.classOfType());
            keep = isKept();
            if (keep)
                KeptResults.add(image, folder);
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
        GivenClasses.remember(image, result.classOfType());
        addStep("cytolite: import a result", Map.of("file", cells.getPath()),
            "qupath.ext.cytolite.Cytolite.importResult(" + Request.literal(cells.getPath()) + ")");
        File folder = cells.getAbsoluteFile().getParentFile();
        if (KeptResults.isResult(folder))
            KeptResults.add(image, folder);
        screen.done(outcome(result, regions, counts, began, folder));
    }

    /** Write what the user named beside the image's last result; returns where. */
    public static File exportLabels(ImageData<?> image) {
        File file = new File(lastResult(image), Labels.FILE);
        Labels.of(image).write(file);
        return file;
    }

    private static File lastResult(ImageData<?> image) {
        return KeptResults.of(image).stream().findFirst().orElseThrow(() -> new Stop(KeptResults.NONE));
    }

    /** The newest results with labels of the project's other slides. */
    public static List<File> otherLabelled(ImageData<?> image, Project<?> project) {
        List<String> mine = KeptResults.of(image).stream().map(File::getName).toList();
        Map<String, File> found = new TreeMap<>();
        File[] runs = project == null || project.getPath() == null ? null : resultsOf(project).toFile().listFiles(File::isDirectory);
        for (File run : runs == null ? new File[0] : runs)
            for (File result : run.listFiles(each -> KeptResults.isResult(each) && new File(each, Labels.FILE).isFile() && !mine.contains(each.getName())))
                // Folders of runs are named by their time.
                found.merge(result.getName(), result, (a, b) -> a.getParent().compareTo(b.getParent()) > 0 ? a : b);
        return List.copyOf(found.values());
    }

    private void learn(String python, List<File> others, File model) {
        screen.begin("Teaching " + model.getName());
        List<File> results = new ArrayList<>(List.of(exportLabels(image).getParentFile()));
        results.addAll(others);
        List<String> words = new ArrayList<>(List.of("teach"));
        results.forEach(each -> words.add(each.getPath()));
        results.forEach(each -> words.addAll(List.of("--labels", new File(each, Labels.FILE).getPath())));
        words.addAll(List.of("--output", model.getPath(), "--overwrite"));
        String found = KeptResults.modelThatFound(results.get(0));
        if (new File(found).isAbsolute())
            words.addAll(List.of("--model", found));
        new LocalProcess(command(python, words), screen).run();
        screen.taught(Taught.read(model));
    }

    private void rename(String python, String model) {
        long began = System.nanoTime();
        lastResult(image);
        screen.begin("Naming the cells with " + new File(model).getName());
        List<File> named = new ArrayList<>();
        List<String> warnings = new ArrayList<>();
        int n = 0;
        for (File result : KeptResults.of(image)) {
            File output = newFolder();
            try {
                new LocalProcess(command(python, List.of("apply", model, result.getPath(), "--output", output.getPath())), screen).run();
                File folder = LocalProcess.resultBelow(output);
                Result names = new Result(new File(folder, "cells.geojson.gz"), screen);
                n += names.rename(image.getHierarchy(), GivenClasses.of(image));
                GivenClasses.remember(image, names.classOfType());
                warnings.addAll(names.warnings());
                named.add(folder);
            } finally {
                if (!isKept())
                    delete(output.toPath());
            }
        }
        if (isKept())
            KeptResults.set(image, named);
        addStep("cytolite: name the cells again", Map.of("model", model), "qupath.ext.cytolite.Cytolite.nameAgain(" + Request.literal(model) + ")");
        Map<String, Integer> counts = new TreeMap<>();
        Result.cellsIn(image.getHierarchy()).forEach(each -> counts.merge(String.valueOf(each.getPathClass()), 1, Integer::sum));
        screen.done(new Outcome("the image, " + n + " of them named again", counts.values().stream().mapToInt(Integer::intValue).sum(), counts,
            Double.NaN, (System.nanoTime() - began) / 1e9, warnings.stream().distinct().toList(), isKept() ? named.get(0) : null));
    }

    /** The words of a command of cytolite. */
    public static List<String> command(String python, List<String> words) {
        if (python == null)
            throw new Stop(NO_PYTHON);
        List<String> all = new ArrayList<>(List.of(python, "-m", "cytolite"));
        all.addAll(words);
        return all;
    }

    private void measure() {
        long began = System.nanoTime();
        PathObjectHierarchy hierarchy = image.getHierarchy();
        List<Region> regions = regions(hierarchy, Request.DEFAULT);
        if (regions.isEmpty())
            throw new Stop("No area is annotated; draw a region, or select one.");
        screen.begin("Counting in " + Region.describe(regions));
        List<PathObject> cells = Result.cellsIn(hierarchy);
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
            // Under other names than those of a run, whose densities are per mm2 of tissue.
            Result.put(Result.clear(region.parent), counts, mm2, "per mm^2 of region", "region mm^2");
        }
        hierarchy.fireHierarchyChangedEvent(this);
        addStep("cytolite: measure regions again", Map.of(), "qupath.ext.cytolite.Cytolite.measureAgain()");
        int n = total.values().stream().mapToInt(Integer::intValue).sum();
        screen.done(new Outcome(Region.describe(regions), n, total, area, (System.nanoTime() - began) / 1e9,
            List.of("Densities are per mm\u00b2 of the region as it is drawn, with its glass."), null));
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
            throw new Stop(NO_PYTHON);
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

    /** Whether results stay: in a project they do. */
    private boolean isKept() {
        return project != null && project.getPath() != null;
    }

    private static Path resultsOf(Project<?> project) {
        return project.getPath().resolveSibling("cytolite");
    }

    /** In the project's folder, where the tables stay; else a temporary one. */
    private File newFolder() {
        try {
            if (!isKept())
                return Files.createTempDirectory("cytolite-").toFile();
            String now = new SimpleDateFormat("yyyy-MM-dd_HH.mm.ss.SSS").format(new Date());
            return Files.createDirectories(resultsOf(project).resolve(now)).toFile();
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
