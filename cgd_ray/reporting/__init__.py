"""Seen: what a run did, from its files alone."""
