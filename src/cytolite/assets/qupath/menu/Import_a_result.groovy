// Brings a cells.geojson.gz of cytolite into the open image, in place of the cells that cytolite added before.
def library = '@LIBRARY@'

// The path of the file; empty to be asked for it.
def file = ''

def loader = new GroovyClassLoader(getClass().getClassLoader())
loader.addClasspath(library)
loader.loadClass('CytoliteRun').importResult(file)
