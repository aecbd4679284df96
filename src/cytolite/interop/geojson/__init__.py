"""QuPath's GeoJSON: written and read as a stream."""
