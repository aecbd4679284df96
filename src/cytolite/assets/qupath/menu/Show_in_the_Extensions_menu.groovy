// Puts cytolite into QuPath's Extensions menu, now and at every start. Run it once.
// QuPath runs one startup script, the one that its preferences name.
def startup = '@STARTUP@'

def preference = qupath.lib.gui.prefs.PathPrefs.startupScriptProperty()
if (!preference.get())
    preference.set(startup)
if (new File(preference.get()) != new File(startup))
    throw new IllegalStateException("QuPath starts with ${preference.get()}; add this line to it: evaluate(new File('$startup'))")
evaluate(new File(startup))
