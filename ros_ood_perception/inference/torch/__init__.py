"""PyTorch as an engine: the graph of `model.onnx`, computed by torch."""
