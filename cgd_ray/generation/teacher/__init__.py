"""What the teacher's stage alone does, and the check on whether the teacher is worth its cost."""
