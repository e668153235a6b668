"""Run directories on object stores: a working copy on disk, published as snapshots, for one driver at a time."""
