"""Cross-relabelling: coarse classes of one dataset split by a classifier trained on another (extra ``train``)."""
