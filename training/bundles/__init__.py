"""Model bundles: exporting a trained network, measuring it, and reading it back."""
