package javafx.scene

class Node { }
