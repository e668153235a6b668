"""From selected records to an exported student: arms -> examples -> packed rows -> Ray Train workers with DeepSpeed -> export."""
