package qupath.lib.projects

import java.nio.file.Path

interface Project<T> {
    Path getPath()
}
