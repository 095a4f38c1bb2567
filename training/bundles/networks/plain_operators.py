"""Operators that no bundle has, written with those that bundles have. The values are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


class _Constants:
    """The graph's constants, with new ones added as nodes are rewritten."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}

    def __getitem__(self, name: str) -> Any:
        return numpy_helper.to_array(self._stored[name])

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def add(self, name: str, value: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(value), name)
        self._graph.initializer.append(tensor)
        self._stored[name] = tensor
        return name


def with_plain_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, changed in place. Nodes whose constants are not known stay as they are."""
    constants = _Constants(model.graph)
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rewrite = _REWRITES.get(node.op_type)
        made = list(rewrite(node, constants, shapes)) if rewrite else []
        nodes += made or [node]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _made(node: onnx.NodeProto, operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], f"{output}/{operator}", **attributes)


def _split(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """Split -> one Slice for each part."""
    given = len(node.input) > 1 and node.input[1] in constants
    sides = shapes.get(node.output[0], [])
    axis = _attribute(node, "axis", 0) % max(len(sides), 1)
    parts = constants[node.input[1]].tolist() if given else [shapes.get(name, sides)[axis] for name in node.output]
    if not sides or not all(parts):
        return
    start = 0
    for index, (output, part) in enumerate(zip(node.output, parts, strict=True)):
        bounds = ("start", [start]), ("end", [start + part]), ("axis", [axis])
        names = [constants.add(f"{node.output[0]}/{name}/{index}", np.array(v, np.int64)) for name, v in bounds]
        yield _made(node, "Slice", [node.input[0], *names], output)
        start += part


def _global_pool(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """GlobalAveragePool -> ReduceMean over height and width."""
    yield _made(node, "ReduceMean", [node.input[0]], node.output[0], axes=[2, 3], keepdims=1)


def _batch_norm(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """BatchNormalization -> a factor and a summand for each channel."""
    rank = len(shapes.get(node.output[0], []))
    if rank < 2 or not all(name in constants for name in node.input[1:]):
        return
    scale, bias, mean, variance = (constants[name] for name in node.input[1:])
    factor = scale / np.sqrt(variance + np.float32(_attribute(node, "epsilon", 1e-5)))
    wide = (-1, *[1] * (rank - 2))
    base = node.output[0]
    factors = constants.add(f"{base}/factor", factor.astype(scale.dtype).reshape(wide))
    summand = constants.add(f"{base}/summand", (bias - mean * factor).astype(scale.dtype).reshape(wide))
    yield _made(node, "Mul", [node.input[0], factors], f"{base}/scaled")
    yield _made(node, "Add", [f"{base}/scaled", summand], base)


def _gemm(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """Gemm with a constant matrix -> MatMul and Add."""
    matrix = node.input[1]
    plain = all(_attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if not plain or _attribute(node, "transA", 0) or matrix not in constants:
        return
    base = node.output[0]
    if _attribute(node, "transB", 0):
        matrix = constants.add(f"{base}/matrix", np.ascontiguousarray(constants[matrix].T))
    with_bias = len(node.input) > 2 and bool(node.input[2])
    yield _made(node, "MatMul", [node.input[0], matrix], f"{base}/product" if with_bias else base)
    if with_bias:
        yield _made(node, "Add", [f"{base}/product", node.input[2]], base)


def _tile(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """Tile along one axis -> Concat."""
    if node.input[1] not in constants:
        return
    repeated = [(axis, count) for axis, count in enumerate(constants[node.input[1]].tolist()) if count != 1]
    if len(repeated) == 1:
        [(axis, count)] = repeated
        yield _made(node, "Concat", [node.input[0]] * count, node.output[0], axis=axis)


def _einsum(node: onnx.NodeProto, constants: _Constants, shapes: dict[str, list[int]]) -> Iterator[onnx.NodeProto]:
    """Masks from queries and pixels, and attention by heads, as products of matrices."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    base, (first, second) = node.output[0], (*node.input, "")[:2]
    if equation == "bqc,bchw->bqhw" and len(shapes.get(base, ())) == 4:
        channels = shapes.get(second, [0, 0])[1]
        flat = constants.add(f"{base}/flat_shape", np.array([0, channels, -1], np.int64))
        wide = constants.add(f"{base}/shape", np.array([0, *shapes[base][1:]], np.int64))
        if channels and all(shapes[base][1:]):
            yield _made(node, "Reshape", [second, flat], f"{base}/flat")
            yield _made(node, "MatMul", [first, f"{base}/flat"], f"{base}/product")
            yield _made(node, "Reshape", [f"{base}/product", wide], base)
    elif equation == "bnkc,bmkc->bknm":
        yield _made(node, "Transpose", [first], f"{base}/left", perm=[0, 2, 1, 3])
        yield _made(node, "Transpose", [second], f"{base}/right", perm=[0, 2, 3, 1])
        yield _made(node, "MatMul", [f"{base}/left", f"{base}/right"], base)
    elif equation == "bknm,bmkc->bnkc":
        yield _made(node, "Transpose", [second], f"{base}/right", perm=[0, 2, 1, 3])
        yield _made(node, "MatMul", [first, f"{base}/right"], f"{base}/product")
        yield _made(node, "Transpose", [f"{base}/product"], base, perm=[0, 2, 1, 3])


_REWRITES: dict[str, Callable[[onnx.NodeProto, _Constants, dict[str, list[int]]], Iterator[onnx.NodeProto]]] = {
    "Split": _split,
    "GlobalAveragePool": _global_pool,
    "BatchNormalization": _batch_norm,
    "Gemm": _gemm,
    "Tile": _tile,
    "Einsum": _einsum,
}
