"""Benchmarks of what is found: scores, sizes and obstacles, on labelled frames."""
