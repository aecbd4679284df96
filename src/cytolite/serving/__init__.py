"""`cytolite serve`: a model that stays loaded, behind HTTP on this machine's own address. Needs the extra `serve`."""
