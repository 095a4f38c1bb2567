"""What every training run has: steps, checkpoints, command line, provenance."""
