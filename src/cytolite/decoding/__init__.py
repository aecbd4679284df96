"""What the network's maps mean: nuclei, their types and their edges."""
