"""The operators that a bundle's graph may have.

An operator that is not in this list is refused before any engine sees the graph. The list holds what `training` exports
(ResNet, ConvNeXt V2 and Swin encoders, every score, half precision, 8 bits) and imports (docs/any_network.md). To add
an operator, write its rule in one of the two modules below and its function for the torch engine in
`inference/torch/operators.py`. If shapes are computed with it, add its values in `values.py`. Semantics: ONNX's
operator reference, opset 17 (onnx.ai/onnx/operators).
"""

from __future__ import annotations

from ros_ood_perception.bundle.onnx_model.array_operators import ARRAY_OPERATORS
from ros_ood_perception.bundle.onnx_model.network_operators import NETWORK_OPERATORS
from ros_ood_perception.bundle.onnx_model.rules import Operator

OPERATORS: dict[str, Operator] = {**ARRAY_OPERATORS, **NETWORK_OPERATORS}
