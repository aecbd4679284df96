"""Readers of public datasets, and the one on-disk store that training reads."""
