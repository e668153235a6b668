"""Who is told what a training does."""
