"""Benchmarks: each file prints ratios measured in one run."""

# Before libraries with telemetry, see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
