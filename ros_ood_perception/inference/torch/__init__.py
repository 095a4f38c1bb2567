"""PyTorch as an engine: runs the graph of `model.onnx`."""
