"""Obstacles of a frame: regions, tracks, and where they are on the ground."""
