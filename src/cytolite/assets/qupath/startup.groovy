if (new File('@SCRIPTS@').isDirectory()) {
    ['Find nuclei': 'Find_nuclei.groovy', 'Import a result': 'Import_a_result.groovy'].each { name, script ->
        qupath.lib.gui.QuPathGUI.getInstance()?.installCommand("Extensions>cytolite>$name", {
            Thread.start { qupath.lib.gui.QuPathGUI.getInstance().runScript(new File('@SCRIPTS@', script), null) }
        } as Runnable)
    }
}
