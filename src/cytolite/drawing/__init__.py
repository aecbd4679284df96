"""Pictures: overviews of slides, patches with their outlines, truth beside predictions."""
