package qupath.ext.cytolite;

import java.io.File;

import qupath.lib.scripting.QP;

/** What scripts call: steps of a workflow, "Run for project", `QuPath script`. The work is done before it returns. */
public final class Cytolite {
    private Cytolite() { }

    /** Find the nuclei in the annotations of the current image; see {@link Request} for the keys of the JSON. */
    public static void findNuclei(String request) {
        run().findNuclei(Home.python(), Request.fromJson(request));
    }

    public static void findNuclei() {
        run().findNuclei(Home.python(), Request.DEFAULT);
    }

    /** Bring a cells.geojson.gz into the current image, in place of the cells that cytolite added before. */
    public static void importResult(String cells) {
        run().importResult(new File(cells), Request.DEFAULT);
    }

    /** Count again what lies in each annotation. */
    public static void measureAgain() {
        run().measureAgain();
    }

    /** Name the cells that are there with another model, by its name or folder, where the results of the image were kept. */
    public static void nameAgain(String model) {
        run().nameAgain(Home.python(), model);
    }

    private static Run run() {
        return new Run(QP.getCurrentImageData(), QP.getProject(), Screen.of(QP.getCurrentImageData()));
    }
}
