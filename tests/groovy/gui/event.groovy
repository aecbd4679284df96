package javafx.event

interface EventHandler<T> {
    void handle(T event)
}
