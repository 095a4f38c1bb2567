"""A graph without nodes about shapes: only the number of images stays open.

Exporters compute shapes with a dozen nodes for each reshape, because the number of images is not known. Here ONNX
Runtime folds the graph for two numbers of images. What differs between the two results depends on the number, and is
written in a form that holds for any.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from training.bundles.networks.plain_operators import with_plain_operators
from training.segmenter.networks.refusal import NetworkRefusedError
from training.segmenter.segmenter import scale_of

TWINS = (2, 3)
"""Numbers of images. Not 1: a side of 1 is dropped by other rules."""

BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "MatMul", "Where", "Equal", "Less", "Greater"})
"""Operators that take one image's constant for any number of images."""

Shape = tuple[int, ...]


def static_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with one input (N, ...) folded, where N is the only open size.

    Raises:
        NetworkRefusedError: its structure depends on the number of images, or ONNX Runtime cannot load it.
    """
    few, many = (_folded(graph, count) for count in TWINS)
    if [_structure(node) for node in few.graph.node] != [_structure(node) for node in many.graph.node]:
        raise NetworkRefusedError(
            "the graph has other nodes for two images than for three; export it with a fixed height and width and a "
            "dynamic number of images"
        )
    merged = _Merged(few, many)
    merged.merge()
    return merged.graph


def _structure(node: onnx.NodeProto) -> tuple[object, ...]:
    return node.op_type, node.domain, tuple(node.input), tuple(node.output)


def _folded(graph: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The graph for a number of images, as ONNX Runtime's basic optimisation leaves it: constants are computed."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = count
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                fixed.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                # It makes Gemm, which takes matrices of two dimensions only.
                disabled_optimizers=["MatMulAddFusion"],
            )
        except Exception as error:  # ONNX Runtime's errors have no common public base class
            raise NetworkRefusedError(
                f"ONNX Runtime cannot load the graph for {count} images ({error}); export it with a dynamic number of "
                "images and ONNX's own operators"
            ) from error
        found = onnx.load(path)
    used = {node.domain for node in found.graph.node} | {""}
    kept = [entry for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    # Here every shape is known.
    return onnx.shape_inference.infer_shapes(with_plain_operators(found))


class _Merged:
    """Two folded graphs, of which the first becomes one for any number of images."""

    def __init__(self, few: onnx.ModelProto, many: onnx.ModelProto) -> None:
        self.graph = few
        self._shapes = tuple(_shapes(model.graph) for model in (few, many))
        self._values = tuple(
            {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} for model in (few, many)
        )

    def merge(self) -> None:
        few, many = self._values
        differing = {
            name
            for name, value in few.items()
            if name not in many or value.shape != many[name].shape or not np.array_equal(value, many[name])
        }
        for node in list(self.graph.graph.node):
            for index, name in enumerate(node.input):
                if name in differing:
                    self._replace(node, index, name)
        used = {name for node in self.graph.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.graph.initializer if tensor.name in used]
        del self.graph.graph.initializer[:], self.graph.graph.value_info[:]
        self.graph.graph.initializer.extend(kept)
        for value in (self.graph.graph.input[0], *self.graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"

    def _replace(self, node: onnx.NodeProto, index: int, name: str) -> None:
        few, many = (values.get(name) for values in self._values)
        if few is None or many is None:
            raise self._refused(node)
        if node.op_type == "Reshape" and index == 1:
            node.input[1] = self._added(node, self._open_shape(node))
        elif node.op_type == "Resize" and index == 3:
            self._resize_by_scales(node)
        elif node.op_type == "Expand" and index == 1:
            source, _ = self._both(node, node.input[0])
            open_sides = [1 if a != b else a for a, b in zip(few.tolist(), many.tolist(), strict=True)]
            lead = len(few) - len(source)
            if any(
                a != b and (i < lead or source[i - lead] == 1) for i, (a, b) in enumerate(zip(few, many, strict=True))
            ):
                raise self._refused(node)
            node.input[1] = self._added(node, np.array(open_sides, np.int64))
        else:
            self._of_one_image(node, index, few, many)

    def _of_one_image(
        self, node: onnx.NodeProto, index: int, few: NDArray[np.generic], many: NDArray[np.generic]
    ) -> None:
        """A constant that repeats itself for every image."""
        along = [axis for axis, (a, b) in enumerate(zip(few.shape, many.shape, strict=False)) if a != b]
        if few.ndim != many.ndim or len(along) != 1:
            raise self._refused(node)
        # A network may see several windows of an image.
        if few.shape[along[0]] * TWINS[1] != many.shape[along[0]] * TWINS[0]:
            raise self._refused(node)
        one = few.take([0], along[0])
        period = few.shape[0] // TWINS[0]
        of_heads = along[0] == 0 and not (few[:period] == one).all()
        if of_heads and all(_repeats(values, period) for values in (few, many)):
            self._of_heads(node, index, few[:period])
            return
        if not ((few == one).all() and (many == one).all()):
            raise self._refused(node)
        if node.op_type in BROADCAST:
            node.input[index] = self._added(node, one)
            return
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0) % few.ndim
        others = [other for other in node.input if other not in self._values[0]]
        if node.op_type != "Concat" or axis == along[0] or not others:
            raise self._refused(node)
        # The number of images comes from the other part: 0 times its first slice, plus the constant.
        base = f"{node.output[0]}/repeated/{index}"
        ends = [np.array([bound], np.int64) for bound in (0, 1, axis)]
        start, stop, where = (self._added(node, bound) for bound in ends)
        zero, value = self._added(node, np.zeros(1, one.dtype)), self._added(node, one)
        made = [
            onnx.helper.make_node("Slice", [others[0], start, stop, where], [f"{base}/slice"], f"{base}/Slice"),
            onnx.helper.make_node("Mul", [f"{base}/slice", zero], [f"{base}/zero"], f"{base}/Mul"),
            onnx.helper.make_node("Add", [f"{base}/zero", value], [base], f"{base}/Add"),
        ]
        at = next(i for i, other in enumerate(self.graph.graph.node) if other.output[0] == node.output[0])
        for offset, new in enumerate(made):
            self.graph.graph.node.insert(at + offset, new)
        node.input[index] = base

    def _of_heads(self, node: onnx.NodeProto, index: int, constant: NDArray[np.generic]) -> None:
        """A constant (heads, ...) that meets a tensor (N heads, ...): both get an axis for the heads.

        So begins the attention of queries that are the same for every image.
        """
        heads, other = len(constant), node.input[1 - index] if len(node.input) == 2 else ""
        sides, made = self._shapes[0].get(other, ()), self._shapes[0].get(node.output[0], ())
        if (
            node.op_type not in BROADCAST
            or not (len(sides) == len(made) == constant.ndim)
            or sides[0] != TWINS[0] * heads
        ):
            raise self._refused(node)
        base, output = f"{node.output[0]}/heads", node.output[0]
        shapes = [self._added(node, np.array(shape, np.int64)) for shape in ((-1, heads, *sides[1:]), (-1, *made[1:]))]
        at = next(i for i, found in enumerate(self.graph.graph.node) if found.output[0] == output)
        node.input[index] = self._added(node, constant[None])
        node.input[1 - index], node.output[0] = f"{base}/other", f"{base}/result"
        before = onnx.helper.make_node("Reshape", [other, shapes[0]], [f"{base}/other"], f"{base}/Reshape")
        after = onnx.helper.make_node("Reshape", [f"{base}/result", shapes[1]], [output], f"{base}/Merge")
        self.graph.graph.node.insert(at, before)
        self.graph.graph.node.insert(at + 2, after)

    def _open_shape(self, node: onnx.NodeProto) -> NDArray[np.int64]:
        few, many = self._both(node, node.output[0])
        open_sides = [index for index, (a, b) in enumerate(zip(few, many, strict=True)) if a != b]
        if len(open_sides) != 1:
            raise self._refused(node)
        return np.array([-1 if index == open_sides[0] else side for index, side in enumerate(few)], np.int64)

    def _resize_by_scales(self, node: onnx.NodeProto) -> None:
        source, target = self._both(node, node.input[0])[0], self._both(node, node.output[0])[0]
        scales = [np.float32(1)] * 2
        for old, new in zip(source[2:], target[2:], strict=True):
            scales.append(np.float32(scale_of(old, new)))
        name = self._added(node, np.array(scales, np.float32))
        node.input[:] = [node.input[0], "", name]

    def _both(self, node: onnx.NodeProto, name: str) -> tuple[Shape, Shape]:
        few, many = (shapes.get(name) for shapes in self._shapes)
        if few is None or many is None or len(few) != len(many):
            raise self._refused(node)
        return few, many

    def _added(self, node: onnx.NodeProto, value: NDArray[np.generic]) -> str:
        name = f"{node.output[0]}/constant/{len(self.graph.graph.initializer)}"
        self.graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _refused(self, node: onnx.NodeProto) -> NetworkRefusedError:
        return NetworkRefusedError(
            f"the node '{node.name}' ({node.op_type}) depends on the number of images in a way that no bundle can "
            "hold; export the network with one image and a dynamic number of images"
        )


def _repeats(values: NDArray[np.generic], period: int) -> bool:
    """Whether values (n period, ...) are the first `period` n times."""
    return all((values[start : start + period] == values[:period]).all() for start in range(0, len(values), period))


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        sides: Sequence[onnx.TensorShapeProto.Dimension] = value.type.tensor_type.shape.dim
        if all(side.HasField("dim_value") for side in sides):
            found[value.name] = tuple(side.dim_value for side in sides)
    return found
