"""Semantic segmentation that knows what it does not know, as a ROS 2 node."""

from ros_ood_perception import telemetry

__version__ = "0.1.0"

# Here, because every command of ours passes here before it imports anything else.
telemetry.turn_off()
