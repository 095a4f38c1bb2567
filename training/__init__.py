"""How a model bundle comes to be: data, training, export, evaluation. Nothing on the vehicle imports this."""

# Before onnxruntime, transformers and the like are: see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
