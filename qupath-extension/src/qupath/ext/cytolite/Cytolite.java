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

    private static Run run() {
        return new Run(QP.getCurrentImageData(), QP.getProject(), Screen.of(QP.getCurrentImageData()));
    }
}
