"""A campaign of faults against the live graph; see `__main__.py`."""
