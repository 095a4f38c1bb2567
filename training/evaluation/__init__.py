"""Measuring a bundle on labelled data sets: metrics, tables and the report."""
