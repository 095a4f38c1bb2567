"""`model.onnx`, checked without running it: the wire format, the operators, the shapes of all values."""
