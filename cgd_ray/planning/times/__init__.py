"""How long each phase takes, by the hardware's bounds or by an earlier run."""
