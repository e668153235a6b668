"""What flows, and how it is kept."""
