"""Studies: many training runs, compared."""
