"""The stages of a run in their order."""
