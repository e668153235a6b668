"""Finished evaluations in one neutral form, read from and written for the tools that teams already have: lm-eval-harness and Inspect."""
