"""Bring the graphs of an older bundle into the form that `training.export` writes today."""
