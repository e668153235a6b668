"""What a rank and an engine hold at their highest moment."""
