"""Model files written for other programs."""
