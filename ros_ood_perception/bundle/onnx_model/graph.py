"""Checks the graph of a bundle: known operators, bounded work and memory, the inputs and outputs of a bundle.

Nothing is run. The operators' rules give the shape of every tensor, so the cost of a graph is known before an engine
opens it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ros_ood_perception.bundle.onnx_model.model_file import (
    FLOAT,
    MOST_DIMENSIONS,
    MOST_ELEMENTS,
    NUMPY_TYPES,
    UINT8,
    OnnxModel,
    OnnxNode,
    read_onnx,
)
from ros_ood_perception.bundle.onnx_model.operators import OPERATORS
from ros_ood_perception.bundle.onnx_model.rules import Call, Dimension, TensorInfo
from ros_ood_perception.bundle.onnx_model.values import known_value
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError, shown

OPSET = 17
IR_VERSIONS = range(3, 11)

MOST_NODES = 20_000
MOST_TENSOR_BYTES = 1 << 30
"""Of one tensor for one frame."""
MOST_LIVE_BYTES = 4 << 30
"""Of all tensors for one frame that are needed at one time, without the weights."""
MOST_FOLDED_BYTES = 256 << 20
"""Of values computed from weights alone, beyond four times the file: engines compute them when they open."""
MOST_FOLDED_OPERATIONS = 1 << 31
MOST_OPERATIONS = 1 << 43
"""Multiplications of one frame. The largest published segmenters take 10^12."""
MOST_FRAME_CHANNELS = 16
MOST_FRAME_TENSORS = 64
"""Of tensors that still have the frame's height and width, so that their size is unknown here."""
FLAGS = frozenset({
    "align_corners", "allowzero", "ceil_mode", "count_include_pad", "exclude_outside", "fmod", "keepdims",
    "noop_with_empty_axes", "select_last_index", "stash_type", "storage_order",
})  # fmt: skip
"""Attributes that are 0 or 1. Engines differ in how they read another number."""
LARGEST_KNOWN = 65_536
"""Elements of the largest stored tensor whose values are used."""

HEIGHT, WIDTH = "the frame's height", "the frame's width"


@dataclass(frozen=True)
class GraphInfo:
    """A graph with the known facts about each of its tensors, by name."""

    model: OnnxModel
    tensors: Mapping[str, TensorInfo]


def check_graph(contents: bytes, size: tuple[int, int] | None = None) -> OnnxModel:
    """Read and check the graph of a bundle.

    Args:
        contents: of an ONNX file.
        size: height and width of the bundle's outputs, pixels; None: any, the same for both outputs.

    Raises:
        OnnxFileError: the graph is refused; the message says what is wrong, where, and the remedy.
    """
    model = read_onnx(contents)
    if model.opset != OPSET or model.ir_version not in IR_VERSIONS:
        raise OnnxFileError(
            f"it has opset {model.opset} and IR version {model.ir_version}; a bundle's graph has {OPSET}, and "
            f"{IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
        )
    if [(i.name, i.element_type) for i in model.inputs] != [("image", UINT8)]:
        raise OnnxFileError(
            f"its inputs are {_signature(model.inputs)}; a bundle's graph has 'image', uint8, and no other"
        )
    wanted = {"semantic": UINT8, "anomaly": FLOAT}
    if len(model.outputs) != 2 or {o.name: o.element_type for o in model.outputs} != wanted:
        raise OnnxFileError(
            f"its outputs are {_signature(model.outputs)}; a bundle's graph has 'semantic', uint8, and 'anomaly', "
            "float32"
        )
    # Two numbers of frames: an engine may be given several.
    for frames in (1, 2):
        info = infer(model, (frames, HEIGHT, WIDTH))
        for name, kind in wanted.items():
            found = info.tensors[name]
            if size is None and len(found.shape) == 3:
                size = found.sides[1], found.sides[2]
            if found.shape != (frames, *(size or ())) or found.element_type != kind:
                raise OnnxFileError(
                    f"'{name}' has the shape {found.shape} and the data type {found.element_type} for {frames} frames; "
                    f"the input size in bundle.yaml makes it {(frames, *(size or ()))}, of the type {kind}"
                )
        if frames == 1:
            _refuse_too_much(info, len(contents))
    return model


def _signature(values: Sequence[object]) -> str:
    return ", ".join(f"{shown(v.name)} (type {v.element_type})" for v in values[:4]) or "none"  # type: ignore[attr-defined]


def infer(model: OnnxModel, frames: tuple[Dimension, Dimension, Dimension]) -> GraphInfo:
    """What is known of every tensor, for frames of a number, height and width; the last two may be names.

    Raises:
        OnnxFileError: a node is not of `OPERATORS`, does not fit its inputs, or uses what is not there.
    """
    if len(model.nodes) > MOST_NODES:
        raise OnnxFileError(f"it has {len(model.nodes)} nodes; at most {MOST_NODES}")
    kinds = {dtype: kind for kind, dtype in NUMPY_TYPES.items()}
    tensors = {
        name: TensorInfo(kinds[array.dtype], array.shape, array if array.size <= LARGEST_KNOWN else None, True)
        for name, array in model.initializers.items()
    }
    if "image" in tensors:
        raise OnnxFileError("the input 'image' has a value in the file")
    tensors["image"] = TensorInfo(UINT8, (*frames, 3))
    for node in model.nodes:
        try:
            _add(node, tensors)
        except OnnxFileError as error:
            raise OnnxFileError(f"{node}: {error}") from error
    for output in model.outputs:
        if output.name not in tensors or output.name in model.initializers:
            raise OnnxFileError(f"no node makes the output {shown(output.name)}")
    return GraphInfo(model, tensors)


def _add(node: OnnxNode, tensors: dict[str, TensorInfo]) -> None:
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise OnnxFileError(
            f"the operator is not one of those that a bundle's graph has: {', '.join(sorted(OPERATORS))}"
        )
    for name, value in node.attributes.items():
        if not isinstance(value, operator.attributes.get(name, ())):  # type: ignore[arg-type]
            raise OnnxFileError(f"its attribute {shown(name)} is not one that the operator takes, or of another type")
        if name in FLAGS and value not in (0, 1):
            raise OnnxFileError(f"its attribute {name} is {value}; it must be 0 or 1")
        if isinstance(value, tuple) and name != "value_floats" and not all(isinstance(item, int) for item in value):
            raise OnnxFileError(f"its attribute {name} holds other things than integers")
    fewest, most = operator.inputs
    if not fewest <= len(node.inputs) <= most or len(node.outputs) != 1:
        raise OnnxFileError(
            f"it has {len(node.inputs)} inputs and {len(node.outputs)} outputs; {fewest} to {most} and 1 are right"
        )
    if "" in node.inputs[:fewest]:
        raise OnnxFileError(f"it leaves out one of its first {fewest} inputs, which it needs")
    unknown = [name for name in node.inputs if name and name not in tensors]
    if unknown:
        raise OnnxFileError(f"its input {shown(unknown[0])} is made by no node before it")
    [output] = node.outputs
    if not output or output in tensors:
        raise OnnxFileError(f"its output {shown(output)} has no name, or one that is taken")
    call = Call(node, [tensors[name] if name else None for name in node.inputs])
    element_type, shape, _ = operator.rule(call)
    if len(shape) > MOST_DIMENSIONS:
        raise OnnxFileError(f"its output has {len(shape)} dimensions; at most {MOST_DIMENSIONS}")
    if math.prod(max(side, 1) for side in shape if isinstance(side, int)) > MOST_ELEMENTS:
        raise OnnxFileError(f"its output {shape} has more than {MOST_ELEMENTS} elements")
    constant = node.operator != "Shape" and all(info is None or info.constant for info in call.inputs)
    tensors[output] = TensorInfo(element_type, shape, known_value(call, element_type, shape), constant)


def _refuse_too_much(info: GraphInfo, file_bytes: int) -> None:
    """Raises where one frame, or opening, would take more than the limits above."""
    last_use = {name: index for index, node in enumerate(info.model.nodes) for name in node.inputs}
    live = operations = folded_bytes = folded_operations = of_frame = 0
    ending: dict[int, int] = {}
    for index, node in enumerate(info.model.nodes):
        call = Call(node, [info.tensors[name] if name else None for name in node.inputs])
        found = info.tensors[node.outputs[0]]
        elements = math.prod(side for side in found.shape if isinstance(side, int))
        size = elements * NUMPY_TYPES[found.element_type].itemsize
        if any(isinstance(side, str) for side in found.shape):
            of_frame += 1
            if of_frame > MOST_FRAME_TENSORS:
                raise OnnxFileError(f"{node}: more than {MOST_FRAME_TENSORS} nodes compute at the frame's own size")
            if elements > MOST_FRAME_CHANNELS:
                raise OnnxFileError(
                    f"{node}: {elements} channels of the frame's own size; at most {MOST_FRAME_CHANNELS}"
                )
            continue
        if size > MOST_TENSOR_BYTES:
            raise OnnxFileError(f"{node}: its output {found.shape} takes {size} bytes; at most {MOST_TENSOR_BYTES}")
        work = elements * OPERATORS[node.operator].rule(call)[2]
        operations += work
        if found.constant:
            folded_bytes, folded_operations = folded_bytes + size, folded_operations + work
        live += size
        if live > MOST_LIVE_BYTES:
            raise OnnxFileError(f"{node}: the tensors of one frame take more than {MOST_LIVE_BYTES} bytes by here")
        if not found.constant:
            # What is folded stays.
            end = last_use.get(node.outputs[0], index)
            ending[end] = ending.get(end, 0) + size
        live -= ending.pop(index, 0)
    if folded_bytes > 4 * file_bytes + MOST_FOLDED_BYTES or folded_operations > MOST_FOLDED_OPERATIONS:
        raise OnnxFileError(
            f"what it computes from its weights alone takes {folded_bytes} bytes and {folded_operations} operations; "
            f"at most {4 * file_bytes + MOST_FOLDED_BYTES} and {MOST_FOLDED_OPERATIONS}"
        )
    if operations > MOST_OPERATIONS:
        raise OnnxFileError(f"one frame takes {operations} operations; at most {MOST_OPERATIONS}")
