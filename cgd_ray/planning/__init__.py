"""What follows from a config before anything starts: whether it fits, how long it takes, what it costs."""
