"""Kept: what is graded, and which records may be trained on."""
