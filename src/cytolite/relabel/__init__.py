"""Cross-relabelling: coarse labels of one dataset split by a classifier trained on another (extra ``train``)."""
