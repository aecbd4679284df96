"""QuPath: its folder, its preferences, its projects and the objects in them."""
