"""From a trained network to a bundle, and back."""
