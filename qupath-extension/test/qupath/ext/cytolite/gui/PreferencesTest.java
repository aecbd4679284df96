package qupath.ext.cytolite.gui;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;

import org.junit.jupiter.api.Test;

import qupath.ext.cytolite.Request;
import qupath.ext.cytolite.Run;
import qupath.lib.gui.prefs.PathPrefs;

class PreferencesTest {
    private final Preferences preferences = new Preferences();

    @Test
    void optionsAreKeptForTheNextStart() {
        Request request = Request.fromJson("{\"model\":\"/my/model\",\"tta\":4,\"output\":\"cells\"}");
        preferences.remember(request);
        assertEquals(request, new Preferences().request());
    }

    @Test
    void whatAnotherVersionWroteGivesWayToTheDefault() {
        for (String name : List.of("request", "speeds", "models", "verbs")) {
            PathPrefs.createPersistentPreference("cytolite." + name, "").set("{\"unknown\": 1");
        }
        assertEquals(Request.DEFAULT, preferences.request());
        assertTrue(Double.isNaN(preferences.speed(Request.DEFAULT)));
        assertEquals(List.of(), preferences.modelFolders());
        assertEquals(List.of(), preferences.verbs());
    }

    @Test
    void aSpeedBelongsToItsOptions() {
        Request other = Request.fromJson("{\"tta\":8}");
        preferences.rememberSpeed(other, 0.25);
        assertEquals(0.25, new Preferences().speed(other));
        assertFalse(preferences.speed(Request.fromJson("{\"tta\":4}")) == 0.25);
        assertEquals("2 regions, 1.50 mm\u00b2; about 0:00:06 at most (glass is left out)", OptionsWindow.describe(new Run.Extent("2 regions", 1.5), 0.25));
    }

    @Test
    void theLastModelComesFirstAndNoneTwice() {
        for (int i = 0; i < 12; i++)
            preferences.rememberModel("/m/" + i);
        preferences.rememberModel("/m/5");
        assertEquals(10, preferences.modelFolders().size());
        assertEquals(List.of("/m/5", "/m/11"), preferences.modelFolders().subList(0, 2));
    }

    @Test
    void whatThePackageHasIsKept() {
        preferences.rememberVerbs(List.of("view", "teach"));
        assertEquals(List.of("view", "teach"), new Preferences().verbs());
    }

    @Test
    void aReportNamesNoPerson() {
        String home = System.getProperty("user.home");
        String report = MessageWindow.report("It failed.", "Running " + home + "/cytolite/bin/python3");
        assertFalse(report.contains(home + "/"), report);
        assertTrue(report.contains("~/cytolite"), report);
        assertTrue(report.startsWith("It failed."));
    }
}
