"""Files: read with limits, written atomically."""
