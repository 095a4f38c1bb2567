"""Many training runs, compared."""
