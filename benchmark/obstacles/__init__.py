"""CPU time of obstacles: found, placed, and followed."""
