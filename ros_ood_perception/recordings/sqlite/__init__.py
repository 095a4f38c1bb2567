"""SQLite bags (`.db3`)."""
