"""The page of a run while it goes on, served to browsers of this machine alone."""
