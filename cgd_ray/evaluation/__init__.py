"""Evaluation: the model answers the problem alone, without a critique."""
