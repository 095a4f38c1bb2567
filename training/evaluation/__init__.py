"""A data set measured: scores, tables, report."""
