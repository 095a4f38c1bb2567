"""Engines: each runs a bundle's graph on some hardware, and nothing else."""
