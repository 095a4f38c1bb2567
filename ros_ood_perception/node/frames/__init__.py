"""Frames between subscription and inference: slots, counts, times."""
