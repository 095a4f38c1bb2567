"""The form of a bundle's graph: the same results from operators that cost less, for new bundles and for older ones."""
