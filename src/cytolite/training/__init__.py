"""Training: augmentation, losses, tasks and runs (needs the extra ``train``)."""
