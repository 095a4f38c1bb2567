"""What is fast, measured: each file prints ratios from one run."""
