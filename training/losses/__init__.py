"""Training objectives: cross-entropy for classes, divergence from uniform for negatives."""
