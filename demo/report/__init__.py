"""The report of a demo run: one HTML page that plays it."""
