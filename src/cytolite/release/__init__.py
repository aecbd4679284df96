"""From a training run to a bundle: export, ensembles, smaller variants, temperature, card."""
