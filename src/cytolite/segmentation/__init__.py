"""The road of a slide: plan, tiles, network, stitching, results."""
