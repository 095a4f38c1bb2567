"""What launch files need before the node runs: topic presets and cameras."""
