"""What a training leaves on the disk: checkpoints, and the student that is published."""
