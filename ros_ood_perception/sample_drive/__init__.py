"""A deterministic renderer of street drives with exact ground truth: for tests, the demo and training."""
