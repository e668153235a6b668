"""Through: student attempts, teacher critiques and refinements, and the selection of what may be trained on."""
