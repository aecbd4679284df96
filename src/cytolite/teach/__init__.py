"""Teach: name nuclei by labels of the user, on results that are there."""
