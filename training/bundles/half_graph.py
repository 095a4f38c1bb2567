"""A bundle's graph with its network in half precision, made from the graph alone.

The network lies between the tensors `NETWORK_INPUT` and `LOGITS` (`MASK_SUMS` of networks of masks). Resizing,
normalisation, classes and score stay float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from training.bundles.graph import LOGITS, MASK_SUMS, NETWORK_INPUT, GraphError, has_mask_sums

HALF = "half"
"""Last part of the names of tensors in half precision beside one in float32."""

LARGEST_HALF = 65504.0
KEPT_INPUTS = {"Resize": (1, 2)}
"""Inputs that are float32 in every graph: region and scales."""


def with_half_network(model: bytes) -> onnx.ModelProto:
    """The graph with its network in half precision.

    Raises:
        GraphError: it does not have the named tensors.
    """
    graph = onnx.load_from_string(model)
    end = MASK_SUMS if has_mask_sums(graph) else LOGITS
    made = {name for node in graph.graph.node for name in node.output}
    for name in (NETWORK_INPUT, end):
        if name not in made:
            raise GraphError(f"the model has no tensor '{name}', so nothing says where its network begins or ends")
    inside = _between(graph.graph, end)
    _halve_weights(graph.graph, inside)
    kept = {
        name for node in inside for index, name in enumerate(node.input) if index in KEPT_INPUTS.get(node.op_type, ())
    }
    for node in inside:
        if not kept.intersection(node.output):
            _halve_types(node)
        node.input[:] = [f"{NETWORK_INPUT}/{HALF}" if name == NETWORK_INPUT else name for name in node.input]
    for node in graph.graph.node:
        if id(node) not in {id(part) for part in inside}:
            node.input[:] = [f"{end}/float" if name == end else name for name in node.input]
    _insert_cast(graph.graph, NETWORK_INPUT, f"{NETWORK_INPUT}/{HALF}", TensorProto.FLOAT16)
    _insert_cast(graph.graph, end, f"{end}/float", TensorProto.FLOAT)
    del graph.graph.value_info[:]
    return graph


def _between(graph: onnx.GraphProto, end: str) -> list[onnx.NodeProto]:
    """The nodes that make `end` from `NETWORK_INPUT` and from constants."""
    wanted, found = {end}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) and NETWORK_INPUT not in node.output:
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def _halve_weights(graph: onnx.GraphProto, inside: Iterable[onnx.NodeProto]) -> None:
    """Give the nodes float16 copies of their float32 initializers. Those that nobody reads any more are removed."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    halves: dict[str, TensorProto] = {}
    for node in inside:
        for index, name in enumerate(node.input):
            kept = index in KEPT_INPUTS.get(node.op_type, ())
            if not kept and name in stored and stored[name].data_type == TensorProto.FLOAT:
                half = f"{name}/{HALF}"
                halves[name] = numpy_helper.from_array(_half(numpy_helper.to_array(stored[name])), half)
                node.input[index] = half
    used = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*tensors, *halves.values()])


def _halve_types(node: onnx.NodeProto) -> None:
    """Constants and casts in float32 become float16."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if node.op_type in ("Constant", "ConstantOfShape") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(_half(numpy_helper.to_array(attribute.t))))


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    # Large negative numbers in place of -inf would become -inf, and a softmax of them NaN.
    return np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)


def _insert_cast(graph: onnx.GraphProto, source: str, target: str, to: int) -> None:
    """A cast right behind the node that makes `source`."""
    at = next(index for index, node in enumerate(graph.node) if source in node.output)
    graph.node.insert(at + 1, onnx.helper.make_node("Cast", [source], [target], f"/{target}/Cast", to=to))
