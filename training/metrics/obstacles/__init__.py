"""Obstacles measured against the truth: which objects were found, where, and which obstacles are false."""
