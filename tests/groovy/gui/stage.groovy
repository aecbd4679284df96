package javafx.stage

class Stage { }

enum Modality { NONE }

class FileChooser {
    static class ExtensionFilter { }
}
