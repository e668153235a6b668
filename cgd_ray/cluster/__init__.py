"""The cluster: Ray, and whether it can hold what a run needs."""
