"""The main job on a desk: frames, the live node over DDS, a recorded bag and a report."""

# Before onnxruntime and the like are: see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
