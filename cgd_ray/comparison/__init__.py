"""Comparison: arms, seeds and settings of the training, each a run of its own, on the same records and the same problems."""
