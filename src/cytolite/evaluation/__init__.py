"""Scores: matching of nuclei, counts, and the metrics that are functions of them."""
