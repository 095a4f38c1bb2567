"""Frames to be labelled: written for CVAT and Label Studio, and what was labelled read back as a training set."""
