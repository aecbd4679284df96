package qupath.lib.images.servers;

public abstract class TransformingImageServer<T> implements ImageServer<T> { }
