"""Labelled frames: data sets, augmentation, and the configuration of both."""
