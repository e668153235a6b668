"""This process: what it shows, how it is stopped, and how it ends with one line."""
