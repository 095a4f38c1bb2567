"""Class ids of the up-sampled logits, in a form that costs less.

The exporter writes: up-sample all K channels, then take the argmax. Engines then move K large planes between memory
layouts. Here one small convolution a class gives the up-sampled logits of all s x s positions within a pixel. They stay
at the resolution of the logits. After the argmax, one plane of ids is put in order.

Both compute the same bilinear values. Only the order of the additions differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PREFIX = "classes"
"""First part of the names of the new nodes and tensors."""

UP_SAMPLING = f"{PREFIX}/weight"
"""Name of the initializer (K * s * s, 1, 3, 3) float32 by which the logits are up-sampled."""

LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _UpSampling:
    """The nodes from the logits to `semantic`, as the exporter writes them.

    Attributes:
        logits: name of the tensor (N, K, h, w) that is up-sampled.
        nodes: up-sampling, argmax and casts.
    """

    logits: str
    classes: int
    factor: int
    nodes: tuple[onnx.NodeProto, ...]


def with_cheaper_classes(graph: onnx.ModelProto) -> bool:
    """Rewrite how a graph comes from logits to class ids, in place.

    Returns:
        Whether it was rewritten. Other forms than the exporter's stay as they are, and so does this function's own.
    """
    found = _find(graph)
    if found is None:
        return False
    new, tensors = _rewritten(found)
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        if node is found.nodes[0]:
            nodes += new
        elif not any(node is old for old in found.nodes):
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    nodes = [node for node in nodes if node.op_type != "Constant" or read.intersection(node.output)]
    # Protocol buffers drop what is cleared, so the nodes are copied first.
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    graph.graph.initializer.extend(tensors)
    return True


def _find(graph: onnx.ModelProto) -> _UpSampling | None:
    producers = {name: node for node in graph.graph.node for name in node.output}
    readers: dict[str, int] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    chain: list[onnx.NodeProto] = []
    name = "semantic"
    for operator in ("Cast", "Cast", "ArgMax", "Resize"):
        made = producers.get(name)
        if made is None or made.op_type != operator or (chain and readers[name] != 1):
            return None
        chain.append(made)
        name = made.input[0]
    resize, arg_max = chain[3], chain[2]
    attributes = {a.name: helper.get_attribute_value(a) for a in arg_max.attribute}
    factor = _factor(resize, producers, graph)
    if (attributes.get("axis"), attributes.get("keepdims")) != (1, 0) or factor is None:
        return None
    classes = _channels(graph, name)
    return None if classes is None else _UpSampling(name, classes, factor, tuple(reversed(chain)))


def _factor(resize: onnx.NodeProto, producers: dict[str, onnx.NodeProto], graph: onnx.ModelProto) -> int | None:
    """By how much a bilinear up-sampling enlarges height and width; None unless both by the same whole number."""
    attributes = {a.name: helper.get_attribute_value(a) for a in resize.attribute}
    how = (attributes.get("mode"), attributes.get("coordinate_transformation_mode", b"half_pixel"))
    if how != (b"linear", b"half_pixel") or attributes.get("antialias") or len(resize.input) != 3:
        return None
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    made = producers.get(resize.input[2])
    tensor = stored.get(resize.input[2]) if made is None else next((a.t for a in made.attribute), None)
    if tensor is None or (made is not None and made.op_type != "Constant"):
        return None
    scales = numpy_helper.to_array(tensor).tolist()
    whole = len(scales) == 4 and scales[:2] == [1, 1] and scales[2] == scales[3] and scales[2] == round(scales[2])
    return int(scales[2]) if whole and scales[2] >= 2 else None


def _channels(graph: onnx.ModelProto, name: str) -> int | None:
    inferred = onnx.shape_inference.infer_shapes(graph)
    for value in inferred.graph.value_info:
        if value.name == name:
            sides = value.type.tensor_type.shape.dim
            return int(sides[1].dim_value) or None if len(sides) == 4 else None
    return None


def up_sampling_weights(factor: int) -> NDArray[np.float32]:
    """Bilinear up-sampling by a whole number, half-pixel centres, as convolutions.

    Returns:
        (s * s, 3, 3): one kernel for each position within a pixel, row by row.

    >>> up_sampling_weights(2)[0].tolist()
    [[0.0625, 0.1875, 0.0], [0.1875, 0.5625, 0.0], [0.0, 0.0, 0.0]]
    """
    along = np.zeros((factor, 3))
    for position in range(factor):
        centre = (position + 0.5) / factor - 0.5
        before = math.floor(centre)
        along[position, before + 1] += 1 - (centre - before)
        along[position, before + 2] += centre - before
    kernels = along[:, None, :, None] * along[None, :, None, :]
    return kernels.reshape(factor * factor, 3, 3).astype(np.float32)


def _rewritten(old: _UpSampling) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    positions = old.factor * old.factor
    weights = np.tile(up_sampling_weights(old.factor)[:, None], (old.classes, 1, 1, 1))
    tensors = {
        "weight": weights,
        "first": np.array([0]),
        "second": np.array([1]),
        "last": np.array([-1]),
        "end": np.array([LAST]),
        "rows": np.array([2]),
        "columns": np.array([3]),
        # A zero copies a side and -1 takes the rest, so the graph holds for every size.
        "by_class": np.array([0, old.classes, -1, 0]),
        "by_position": np.array([0, positions, -1, 0]),
        "channel": np.array(0),
    }

    def node(operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        names = [f"{PREFIX}/{name}" if name in tensors else name for name in inputs]
        result = output if output == "semantic" else f"{PREFIX}/{output}"
        return helper.make_node(operator, names, [result], f"/{PREFIX}/{output}", **attributes)

    def own(*names: str) -> list[str]:
        return [f"{PREFIX}/{name}" for name in names]

    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    nodes = [
        # Up-sampling repeats the values at the edges.
        node("Slice", [old.logits, "first", "second", "rows"], "top"),
        node("Slice", [old.logits, "last", "end", "rows"], "bottom"),
        node("Concat", [*own("top"), old.logits, *own("bottom")], "taller", axis=2),
        node("Slice", [*own("taller"), "first", "second", "columns"], "left"),
        node("Slice", [*own("taller"), "last", "end", "columns"], "right"),
        node("Concat", own("left", "taller", "right"), "framed", axis=3),
        node("Conv", [*own("framed"), "weight"], "up_sampled", group=old.classes, kernel_shape=[3, 3]),
        node("Reshape", [*own("up_sampled"), "by_class"], "logits"),
        node("ArgMax", own("logits"), "ids", axis=1, keepdims=1),
        node("Cast", own("ids"), "as_float", to=float32),
        node("Reshape", [*own("as_float"), "by_position"], "positions"),
        node("DepthToSpace", own("positions"), "plane", blocksize=old.factor),
        node("Gather", [*own("plane"), "channel"], "of_frame", axis=1),
        node("Cast", own("of_frame"), "semantic", to=uint8),
    ]
    return nodes, [numpy_helper.from_array(array, f"{PREFIX}/{name}") for name, array in tensors.items()]
