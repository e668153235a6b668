"""Health: what is going wrong with a run, told from what it has durably written, while there is still money to save."""
