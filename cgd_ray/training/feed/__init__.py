"""Which rows each rank trains on at which step, and at which rate."""
