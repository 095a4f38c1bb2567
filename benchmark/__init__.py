"""What is fast, measured: each file prints ratios from one run."""

# Before onnxruntime and the like are: see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
