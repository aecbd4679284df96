"""What the network's maps mean: nuclei, their types, their outlines and what is measured of them."""
