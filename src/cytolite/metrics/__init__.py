"""Metrics of nuclei: arrays in, numbers out."""
