"""A deterministic renderer of street drives with exact ground truth, for tests, the demo and training."""

# Before libraries with telemetry, see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
