"""The parts of every training run: steps, checkpoints, command line and provenance."""
