"""Semantic segmentation that knows what it does not know, as a ROS 2 node."""

__version__ = "0.1.0"
