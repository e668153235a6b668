"""What makes a run impossible, or worse than it need be, and the change that mends it."""
