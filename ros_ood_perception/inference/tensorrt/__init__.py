"""TensorRT: building, caching and running a plan."""
