"""Cells in other programs' formats: GeoParquet, QuPath's GeoJSON, tables, and regions of interest."""
