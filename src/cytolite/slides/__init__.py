"""Slides: reading any region at any um/px, where the tissue is, and the tiles to work through.

``reader.open_slide`` is the door; the format readers, ``levels`` and ``resample`` are what it is built from.
"""
