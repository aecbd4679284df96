package qupath.ext.cytolite;

import java.io.File;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * What a run has found.
 *
 * @param where    the regions, in words
 * @param nuclei   how many
 * @param counts   nuclei by type, in the order of the result
 * @param tissueMm2 area that was looked at; NaN if the result does not say
 * @param seconds  how long it took
 * @param warnings sentences that the result came with
 * @param folder   where its tables stay; null if they do not
 */
public record Outcome(String where, int nuclei, Map<String, Integer> counts, double tissueMm2, double seconds,
        List<String> warnings, File folder) {
    public static final String NOTICE = "For research use only; not for diagnosis.";

    public String sentence() {
        String found = String.format(Locale.US, "%,d nuclei in %s, %.1f s.", nuclei, where, seconds);
        return folder == null ? found + " " + NOTICE : found + " Tables are in " + folder + ". " + NOTICE;
    }
}
