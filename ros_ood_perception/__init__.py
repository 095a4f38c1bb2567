"""Semantic segmentation with dense anomaly detection, as a ROS 2 lifecycle node."""

from ros_ood_perception import telemetry

__version__ = "0.1.0"

# Here, because every command imports this package first.
telemetry.turn_off()
