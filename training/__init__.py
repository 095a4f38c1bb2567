"""Training, export and evaluation of model bundles. The vehicle's package does not import it."""

# Imported before onnxruntime and transformers: see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
