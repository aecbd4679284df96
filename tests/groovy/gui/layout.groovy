package javafx.scene.layout

import javafx.scene.Node

class VBox extends Node {
    List<Node> children
    VBox(double spacing, Node... children) { this.children = children.toList() }
}
