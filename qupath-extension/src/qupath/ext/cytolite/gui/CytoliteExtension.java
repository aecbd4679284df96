package qupath.ext.cytolite.gui;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

import qupath.ext.cytolite.Screen;
import qupath.lib.common.Version;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;

/** Where QuPath meets cytolite. */
public final class CytoliteExtension implements QuPathExtension {
    @Override
    public void installExtension(QuPathGUI qupath) {
        Preferences preferences = new Preferences();
        Screen.use(image -> image != null && image == qupath.getImageData() ? WindowScreen.open(qupath) : null);
        new Entries(qupath, preferences).install();
    }

    @Override
    public String getName() {
        return "cytolite";
    }

    @Override
    public String getDescription() {
        return "Finds, outlines and names every nucleus in H&E images. For research use only; not for diagnosis.";
    }

    @Override
    public Version getQuPathVersion() {
        return Version.parse("0.5.1");
    }

    /** Of this extension; the package of the same version belongs to it. */
    static String version() {
        try (InputStream text = CytoliteExtension.class.getResourceAsStream("/qupath/ext/cytolite/version.txt")) {
            return text == null ? "unknown" : new String(text.readAllBytes(), StandardCharsets.UTF_8).trim();
        } catch (IOException problem) {
            return "unknown";
        }
    }
}
