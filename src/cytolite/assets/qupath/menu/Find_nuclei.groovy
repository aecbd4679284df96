// Finds, outlines and names the nuclei in the selected annotations, else in all, else in the whole image.
def python = '@PYTHON@'
def library = '@LIBRARY@'

// More options of `cytolite segment`, for example ['--model', '/path/to/my-model', '--tissue', 'all'].
def options = []

def loader = new GroovyClassLoader(getClass().getClassLoader())
loader.addClasspath(library)
loader.loadClass('CytoliteRun').findNuclei(python, options)
