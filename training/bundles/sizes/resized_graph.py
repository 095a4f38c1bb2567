"""A bundle's graph with another input size. The weights are the same.

Three things in it hold for one size: the target of the first resize, the pyramid pooling on the coarsest map, and the
shapes of the outputs. Convolutions, and resizes by a factor, work at every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ros_ood_perception.bundle.onnx_model.graph import HEIGHT, WIDTH, infer
from ros_ood_perception.bundle.onnx_model.model_file import NUMPY_TYPES, read_onnx
from ros_ood_perception.bundle.onnx_model.rules import TensorInfo
from training.bundles.graph import LOGITS, NETWORK_INPUT, GraphError
from training.bundles.onnx_export import finished
from training.segmenter.ladder_segmenter import nearest_size
from training.segmenter.pyramid_pooling import divides, pooling_matrix, spreading_matrix

OF_ONE_SIZE = ("Expand", "Pad", "Reshape", "Tile")
"""Operators with amounts that the exporter computed for one size, in the windows of a Swin for example."""

REMEDY = "export the checkpoint at this size (training.export --size)"


class SizeError(GraphError):
    """The network does not take an input of this size. The message names one that it takes."""


@dataclass(frozen=True)
class _Pooling:
    """One grid of the pyramid pooling in a graph.

    Attributes:
        bins: rows and columns of the grid.
        pool, spread: nodes of the pooling to the grid, and of the up-sampling from it.
    """

    bins: int
    pool: tuple[onnx.NodeProto, ...]
    spread: tuple[onnx.NodeProto, ...]


def resized(model: bytes, size: tuple[int, int]) -> bytes:
    """The graph with another input size, as `onnx_bytes` would export it.

    Args:
        model: of a bundle, at any precision.
        size: height and width, multiples of the network's stride.

    Raises:
        SizeError: other sides.
        GraphError: the graph is of another kind of network, or of an export of another version.
    """
    parsed = read_onnx(model)
    tensors = infer(parsed, (1, HEIGHT, WIDTH)).tensors
    graph = onnx.load_from_string(model)
    _refuse_parts_of_one_size(graph.graph)
    old = tensors["semantic"].sides[1:]
    poolings = _poolings(graph.graph, tensors)
    if not poolings:
        raise GraphError(f"the graph has no pyramid pooling; {REMEDY}")
    coarsest = _map_size(tensors, poolings[0].pool[0].input)
    stride = old[0] // coarsest[0]
    if any(side < stride or side % stride for side in size):
        raise SizeError(
            f"no input of {size[0]}x{size[1]}: height and width must be multiples of {stride} (stride of the encoder); "
            f"the nearest is {nearest_size(size, stride)}"
        )
    _set_target(graph.graph, tensors, (old[0], old[1]), size)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    for pooling in poolings:
        replaced |= _replaced(tensors, pooling, (size[0] // stride, size[1] // stride))
    _put(graph.graph, replaced)
    for output in graph.graph.output:
        for dimension, side in zip(output.type.tensor_type.shape.dim[1:], size, strict=True):
            dimension.dim_value = side
    del graph.graph.value_info[:]
    return finished(graph, {entry.key: entry.value for entry in graph.metadata_props})


def _refuse_parts_of_one_size(graph: onnx.GraphProto) -> None:
    producers = {name: node for node in graph.node for name in node.output}
    if LOGITS not in producers:
        raise GraphError(f"the graph has no tensor '{LOGITS}'; {REMEDY}")
    if NETWORK_INPUT in producers:
        # Its factors of up-sampling, positions and windows are computed for one size, in ways that nothing here knows.
        raise GraphError(
            "the network was imported, and its graph holds for one size; import it again with one --size for each "
            "(training.import_network)"
        )
    wanted, seen = [LOGITS], set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        node = producers[name]
        if node.op_type in OF_ONE_SIZE:
            raise GraphError(f"the graph has nodes {node.op_type}, whose amounts hold for one size; {REMEDY}")
        wanted += node.input


def _map_size(tensors: Mapping[str, TensorInfo], names: Sequence[str]) -> tuple[int, int]:
    """Height and width of the map (N, C, h, w) among a node's inputs."""
    [sides] = [tensors[name].sides for name in names if name and not tensors[name].constant]
    return sides[-2], sides[-1]


def _set_target(
    graph: onnx.GraphProto, tensors: Mapping[str, TensorInfo], old: tuple[int, int], size: tuple[int, int]
) -> None:
    """Resize the frame to another size."""
    producers = {name: node for node in graph.node for name in node.output}
    of_frame = [n for n in graph.node if n.op_type == "Resize" and WIDTH in tensors[n.input[0]].shape]
    targets: list[str] = []
    for node in of_frame:
        joined = producers.get(node.input[3]) if len(node.input) > 3 else None
        targets += joined.input if joined is not None and joined.op_type == "Concat" else ()
    found = [name for name in targets if _values(tensors[name]) == [*old]]
    if len(of_frame) != 1 or len(found) != 1 or found[0] not in producers:
        raise GraphError(f"the graph does not resize the frame as an exported one does; {REMEDY}")
    value = numpy_helper.from_array(np.array(size, np.int64))
    node = producers[found[0]]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("value", value))


def _values(info: TensorInfo) -> list[Any]:
    return [] if info.value is None else list(np.atleast_1d(info.value).tolist())


def _poolings(graph: onnx.GraphProto, tensors: Mapping[str, TensorInfo]) -> list[_Pooling]:
    """All grids, whether they are pooled by a kernel or by two products."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        pool = () if node.op_type == "Resize" else _steps(node, users, tensors)
        if not pool:
            continue
        rows, columns = tensors[pool[-1].output[0]].sides[-2:]
        size = _map_size(tensors, node.input)
        if rows != columns or (rows > size[0] and columns > size[1]):
            continue  # of an encoder, or the up-sampling from a grid
        spread = _spread(pool[-1], users, tensors)
        if spread and tuple(tensors[spread[-1].output[0]].sides[-2:]) == size:
            found.append(_Pooling(rows, pool, spread))
    return found


def _steps(
    node: onnx.NodeProto, users: Mapping[str, Sequence[onnx.NodeProto]], tensors: Mapping[str, TensorInfo]
) -> tuple[onnx.NodeProto, ...]:
    """The nodes of a pooling or an up-sampling that begins with a node; empty if none does."""
    if node.op_type == "AveragePool":
        return (node,)
    if node.op_type == "Resize" and WIDTH not in tensors[node.input[0]].shape:
        return (node,)
    after = users.get(node.output[0], ())
    # A matrix from the left, then one from the right. Linear layers have theirs on the right only.
    if node.op_type != "MatMul" or not tensors[node.input[0]].constant or len(after) != 1:
        return ()
    second = after[0]
    if second.op_type != "MatMul" or second.input[0] != node.output[0] or not tensors[second.input[1]].constant:
        return ()
    return node, second


def _spread(
    pool: onnx.NodeProto, users: Mapping[str, Sequence[onnx.NodeProto]], tensors: Mapping[str, TensorInfo]
) -> tuple[onnx.NodeProto, ...]:
    """The up-sampling after the branch that follows a pooling."""
    after = users.get(pool.output[0], ())
    while len(after) == 1:
        steps = _steps(after[0], users, tensors)
        if steps:
            return steps if after[0].op_type != "AveragePool" else ()
        after = users.get(after[0].output[0], ())
    return ()


def _replaced(
    tensors: Mapping[str, TensorInfo], pooling: _Pooling, size: tuple[int, int]
) -> dict[str, list[onnx.NodeProto]]:
    """The nodes of a grid for another size of the coarsest map, by the outputs of those that they replace."""
    (height, width), bins = size, pooling.bins
    kernel = [height // bins, width // bins]
    found: dict[str, list[onnx.NodeProto]] = {}
    for old, small in ((pooling.pool, True), (pooling.spread, False)):
        [source] = [name for name in old[0].input if name and not tensors[name].constant]
        output = old[-1].output[0]
        if not divides(bins, size):
            dtype = NUMPY_TYPES[tensors[output].element_type]
            matrix = pooling_matrix if small else spreading_matrix
            new = _product(matrix(bins, height), source, matrix(bins, width), dtype, output)
        elif small:
            new = [helper.make_node("AveragePool", [source], [output], f"/{output}/AveragePool", **_kernel(kernel))]
        else:
            new = _up_sampling(source, kernel, output)
        found |= {node.output[0]: [] for node in old[:-1]} | {output: new}
    return found


def _up_sampling(source: str, factors: list[int], output: str) -> list[onnx.NodeProto]:
    scales = f"{output}/scales"
    how = {"coordinate_transformation_mode": "half_pixel", "mode": "linear", "nearest_mode": "floor"}
    return [
        _constant(scales, np.array([1, 1, *factors], np.float32)),
        helper.make_node("Resize", [source, "", scales], [output], f"/{output}/Resize", **how),
    ]


def _kernel(kernel: list[int]) -> dict[str, Any]:
    return {"ceil_mode": 0, "count_include_pad": 1, "kernel_shape": kernel, "pads": [0, 0, 0, 0], "strides": kernel}


def _product(
    rows: NDArray[np.float32], source: str, columns: NDArray[np.float32], dtype: Any, output: str
) -> list[onnx.NodeProto]:
    return [
        _constant(f"{output}/rows", rows.astype(dtype)),
        _constant(f"{output}/columns", columns.T.astype(dtype)),
        helper.make_node("MatMul", [f"{output}/rows", source], [f"{output}/by_rows"], f"/{output}/MatMul"),
        helper.make_node("MatMul", [f"{output}/by_rows", f"{output}/columns"], [output], f"/{output}/MatMul_1"),
    ]


def _constant(name: str, values: NDArray[Any]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.ascontiguousarray(values))
    return helper.make_node("Constant", [], [name], f"/{name}", value=value)


def _put(graph: onnx.GraphProto, replaced: Mapping[str, list[onnx.NodeProto]]) -> None:
    """Replace the nodes with these outputs, and drop the constants that only they read."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += replaced.get(node.output[0], [node])
    read = {name for node in nodes for name in node.input}
    nodes = [node for node in nodes if node.op_type != "Constant" or read.intersection(node.output)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
