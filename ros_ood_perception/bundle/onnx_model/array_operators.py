"""The rules of the operators that work on arrays: element by element, along axes, and on shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.onnx_model.model_file import BOOL, FLOAT, INT8, INT64, NUMPY_TYPES, UINT8, OnnxNode
from ros_ood_perception.bundle.onnx_model.rules import Call, Operator, Shape, adding_to, broadcast
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

ARRAY_OPERATORS: dict[str, Operator] = {}
operator = adding_to(ARRAY_OPERATORS)


@operator("Identity Relu Sigmoid Exp Log Neg Erf Sqrt Not Abs Ceil Floor Round Sign Tanh Reciprocal", 1, 1)
@operator("Softplus HardSwish", 1, 1)
@operator("LeakyRelu", 1, 1, alpha=float)
@operator("HardSigmoid", 1, 1, alpha=float, beta=float)
def _same(call: Call) -> tuple[int, Shape, int]:
    kind = NUMPY_TYPES[call.input(0).element_type].kind
    wanted = {"Identity": "fiub", "Not": "b", "Neg": "fi", "Abs": "fi", "Sign": "fi"}.get(call.node.operator, "f")
    if kind not in wanted:
        raise OnnxFileError(f"its input has the data type {call.input(0).element_type}, which it does not take")
    return call.input(0).element_type, call.input(0).shape, 1


@operator("Add Sub Mul Div Min Max", 2, 2)
@operator("Mod", 2, 2, fmod=int)
def _arithmetic(call: Call) -> tuple[int, Shape, int]:
    first, second = call.input(0), call.input(1)
    if first.element_type != second.element_type or (first.element_type == BOOL and call.node.operator != "Equal"):
        raise OnnxFileError(f"its inputs have the types {first.element_type} and {second.element_type}")
    if call.node.operator in ("Div", "Mod") and NUMPY_TYPES[second.element_type].kind in "iu":
        # An integer division by zero ends the process; so does the smallest integer by -1.
        value = second.value
        if value is None or value.dtype == object or (value < 1).any():
            raise OnnxFileError("it divides integers by something that is not known to be at least 1")
    return first.element_type, broadcast(first.shape, second.shape), 1


@operator("Pow", 2, 2)
def _power(call: Call) -> tuple[int, Shape, int]:
    if NUMPY_TYPES[call.input(0).element_type].kind != "f":
        raise OnnxFileError("it takes powers of integers")
    return _arithmetic(call)


@operator("Equal Greater GreaterOrEqual Less LessOrEqual", 2, 2)
def _comparison(call: Call) -> tuple[int, Shape, int]:
    return BOOL, _arithmetic(call)[1], 1


@operator("And", 2, 2)
def _both(call: Call) -> tuple[int, Shape, int]:
    # The mask attention of Mask2Former and OneFormer.
    if {call.input(index).element_type for index in range(2)} != {BOOL}:
        raise OnnxFileError("its inputs are no truth values")
    return BOOL, broadcast(call.input(0).shape, call.input(1).shape), 1


@operator("Where", 3, 3)
def _where(call: Call) -> tuple[int, Shape, int]:
    condition, yes, no = (call.input(index) for index in range(3))
    if condition.element_type != BOOL or yes.element_type != no.element_type:
        raise OnnxFileError("its condition is not a truth value, or its two choices have different types")
    return yes.element_type, broadcast(condition.shape, yes.shape, no.shape), 1


@operator("Clip", 1, 3)
def _clip(call: Call) -> tuple[int, Shape, int]:
    return call.input(0).element_type, call.input(0).shape, 2


@operator("Cast", 1, 1, to=int)
def _cast(call: Call) -> tuple[int, Shape, int]:
    to = call.attribute("to", 0)
    if to not in NUMPY_TYPES:
        raise OnnxFileError(f"it casts to the data type {to}, which a bundle's graph does not have")
    return to, call.input(0).shape, 1


@operator("Softmax", 1, 1, axis=int)
def _softmax(call: Call) -> tuple[int, Shape, int]:
    call.axis(call.attribute("axis", -1), len(call.input(0).shape))
    return call.input(0).element_type, call.input(0).shape, 3


@operator("ReduceMax ReduceMin ReduceMean ReduceL2", 1, 1, axes=tuple, keepdims=int)
@operator("ReduceSum", 1, 2, keepdims=int, noop_with_empty_axes=int)
def _reduce(call: Call) -> tuple[int, Shape, int]:
    data = call.input(0)
    given = call.integers(1) if call.node.operator == "ReduceSum" else call.attribute("axes", None)
    rank = len(data.shape)
    if not given:
        raise OnnxFileError("it reduces over all axes at once, which TensorRT does not read; name them")
    axes = {call.axis(axis, rank) for axis in given}
    keep = call.attribute("keepdims", 1)
    reduced = [1 if index in axes else side for index, side in enumerate(data.shape) if keep or index not in axes]
    work = math.prod(side for index, side in enumerate(data.shape) if index in axes and isinstance(side, int))
    return data.element_type, tuple(reduced), work


@operator("ArgMax", 1, 1, axis=int, keepdims=int, select_last_index=int)
def _arg_max(call: Call) -> tuple[int, Shape, int]:
    sides = call.input(0).sides
    axis = call.axis(call.attribute("axis", 0), len(sides))
    if call.attribute("select_last_index", 0):
        raise OnnxFileError("select_last_index is 1; a bundle's graph takes the first of equal values")
    kept = (1,) if call.attribute("keepdims", 1) else ()
    return INT64, (*sides[:axis], *kept, *sides[axis + 1 :]), sides[axis]


@operator("Shape", 1, 1, start=int, end=int)
def _shape(call: Call) -> tuple[int, Shape, int]:
    rank = len(call.input(0).shape)
    start, end, _ = slice(call.attribute("start", 0), call.attribute("end", None)).indices(rank)
    return INT64, (max(end - start, 0),), 1


@operator("Constant", 0, 0, value=np.ndarray, value_float=float, value_int=int, value_floats=tuple, value_ints=tuple)
def _constant(call: Call) -> tuple[int, Shape, int]:
    if len(call.node.attributes) != 1:
        raise OnnxFileError(f"it has {len(call.node.attributes)} values; a constant has one")
    value = constant_value(call.node)
    kinds = {dtype: kind for kind, dtype in NUMPY_TYPES.items()}
    return kinds[value.dtype], value.shape, 1


def constant_value(node: OnnxNode) -> NDArray[Any]:
    """What a `Constant` node gives."""
    [(name, value)] = node.attributes.items()
    if name == "value":
        return np.asarray(value)
    return np.array(value, NUMPY_TYPES[FLOAT if name.startswith("value_float") else INT64])


@operator("Gather", 2, 2, axis=int)
def _gather(call: Call) -> tuple[int, Shape, int]:
    data, indices = call.input(0), call.input(1)
    if not data.shape or NUMPY_TYPES[indices.element_type].kind != "i":
        raise OnnxFileError("it gathers from a single value, or with indices that are no integers")
    axis = call.axis(call.attribute("axis", 0), len(data.shape))
    side = data.shape[axis]
    if indices.value is None or not isinstance(side, int):
        raise OnnxFileError("it gathers with indices that are not known before it runs")
    if indices.value.dtype == object or ((indices.value < -side) | (indices.value >= side)).any():
        raise OnnxFileError(f"an index that it gathers is outside of the {side} that there are")
    return data.element_type, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]), 1


@operator("Slice", 3, 5)
def _slice(call: Call) -> tuple[int, Shape, int]:
    data = call.input(0)
    found = list(data.shape)
    for axis, part in slices(call):
        side = found[axis]
        if not isinstance(side, int):
            raise OnnxFileError("it takes a part of the frame's height or width, which are not known")
        start, stop, step = part.indices(side)
        found[axis] = len(range(start, stop, step))
    return data.element_type, tuple(found), 1


def slices(call: Call) -> list[tuple[int, slice]]:
    """Axis and part of each axis that a `Slice` cuts."""
    starts, ends, axes, steps = (call.integers(index) for index in range(1, 5))
    rank = len(call.input(0).shape)
    assert starts is not None
    assert ends is not None
    axes = list(range(len(starts))) if axes is None else [call.axis(axis, rank) for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)) or len(axes) > rank:
        raise OnnxFileError("its starts, ends, axes and steps do not belong to each other")
    if not all(isinstance(number, int) for number in (*starts, *ends, *steps)) or 0 in steps:
        raise OnnxFileError("its starts, ends or steps are not known, or a step is 0")
    return [(axis, slice(*part)) for axis, *part in zip(axes, starts, ends, steps, strict=True)]


@operator("Concat", 1, 4096, axis=int)
def _concat(call: Call) -> tuple[int, Shape, int]:
    parts = [call.input(index) for index in range(len(call.inputs))]
    first = parts[0]
    axis = call.axis(call.attribute("axis", None), len(first.shape))
    total = 0
    for part in parts:
        side = part.shape[axis] if len(part.shape) == len(first.shape) else None
        rest = part.shape[:axis] + part.shape[axis + 1 :]
        if (
            not isinstance(side, int)
            or rest != first.shape[:axis] + first.shape[axis + 1 :]
            or part.element_type != first.element_type
        ):
            raise OnnxFileError(f"parts {first.shape} and {part.shape} cannot be joined along the axis {axis}")
        total += side
    return first.element_type, (*first.shape[:axis], total, *first.shape[axis + 1 :]), 1


@operator("Unsqueeze", 2, 2)
def _unsqueeze(call: Call) -> tuple[int, Shape, int]:
    axes = call.integers(1) or []
    rank = len(call.input(0).shape) + len(axes)
    places = {call.axis(axis, rank) for axis in axes}
    rest = iter(call.input(0).shape)
    if len(places) < len(axes):
        raise OnnxFileError("an axis is there twice")
    return call.input(0).element_type, tuple(1 if i in places else next(rest) for i in range(rank)), 1


@operator("Squeeze", 2, 2)
def _squeeze(call: Call) -> tuple[int, Shape, int]:
    shape = call.input(0).shape
    places = {call.axis(axis, len(shape)) for axis in call.integers(1) or []}
    if any(shape[place] != 1 for place in places):
        raise OnnxFileError(f"it drops an axis of {shape} that has more than one element")
    return call.input(0).element_type, tuple(side for i, side in enumerate(shape) if i not in places), 1


@operator("Reshape", 2, 2, allowzero=int)
def _reshape(call: Call) -> tuple[int, Shape, int]:
    sides, wanted = call.input(0).sides, call.integers(1) or []
    if call.attribute("allowzero", 0) or not all(isinstance(side, int) and side >= -1 for side in wanted):
        raise OnnxFileError(f"its new shape is {wanted}; it must be known, with at most one -1")
    if any(side == 0 and index >= len(sides) for index, side in enumerate(wanted)):
        raise OnnxFileError(f"its new shape is {wanted}; a zero copies a side, and there is none in {sides}")
    wanted = [sides[index] if side == 0 else side for index, side in enumerate(wanted)]
    known = math.prod(side for side in wanted if side != -1)
    if wanted.count(-1) == 1 and known and math.prod(sides) % known == 0:
        wanted[wanted.index(-1)] = math.prod(sides) // known
    if -1 in wanted or math.prod(wanted) != math.prod(sides):
        raise OnnxFileError(f"{sides} cannot become {wanted}")
    return call.input(0).element_type, tuple(wanted), 1


@operator("Transpose", 1, 1, perm=tuple)
def _transpose(call: Call) -> tuple[int, Shape, int]:
    shape = call.input(0).shape
    order = call.attribute("perm", tuple(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        raise OnnxFileError(f"perm is {order}; it must order the axes of {shape}")
    return call.input(0).element_type, tuple(shape[axis] for axis in order), 1


@operator("DepthToSpace", 1, 1, blocksize=int, mode=bytes)
def _depth_to_space(call: Call) -> tuple[int, Shape, int]:
    # Up-sampled classes. With one plane, both modes mean the same order.
    sides, block = call.input(0).sides, call.attribute("blocksize", 0)
    if len(sides) != 4 or block < 1 or sides[1] != block * block:
        raise OnnxFileError(f"its input is {sides} and its blocksize {block}; blocksize^2 channels are read")
    return call.input(0).element_type, (sides[0], 1, block * sides[2], block * sides[3]), 1


@operator("Expand", 2, 2)
def _expand(call: Call) -> tuple[int, Shape, int]:
    wanted = call.integers(1) or []
    if not all(isinstance(side, int) and side >= 1 for side in wanted):
        raise OnnxFileError(f"it expands to {wanted}; it must be known and positive")
    return call.input(0).element_type, broadcast(call.input(0).shape, tuple(wanted)), 1


@operator("ConstantOfShape", 1, 1, value=np.ndarray)
def _constant_of_shape(call: Call) -> tuple[int, Shape, int]:
    wanted = call.integers(0) or []
    value = call.attribute("value", np.zeros(1, np.float32))
    if not all(isinstance(side, int) and side >= 0 for side in wanted) or value.size != 1:
        raise OnnxFileError(f"it makes the shape {wanted}; it must be known, and filled with one value")
    return {dtype: kind for kind, dtype in NUMPY_TYPES.items()}[value.dtype], tuple(wanted), 1


@operator("Range", 3, 3)
def _range(call: Call) -> tuple[int, Shape, int]:
    found = [call.integers(index) for index in range(3)]
    numbers = [number for part in found for number in part or ()]
    if [len(part or ()) for part in found] != [1, 1, 1] or not all(isinstance(n, int) for n in numbers):
        raise OnnxFileError("its start, limit and step must be known integers")
    start, limit, step = numbers
    if step == 0:
        raise OnnxFileError("its step is 0")
    return INT64, (max(-((start - limit) // step), 0),), 1


@operator("QuantizeLinear DequantizeLinear", 2, 3, axis=int)
def _quantise(call: Call) -> tuple[int, Shape, int]:
    data, scale, zero = call.input(0), call.input(1), call.optional(2)
    eight_bits = zero.element_type if zero is not None else UINT8
    if len(scale.shape) > 1 or scale.element_type != FLOAT or (zero is not None and zero.shape != scale.shape):
        raise OnnxFileError("its scale is no float32 value or list, or its zero point has another shape")
    if scale.shape and scale.sides[0] != 1:
        axis = call.axis(call.attribute("axis", 1), len(data.shape))
        if data.shape[axis] != scale.shape[0]:
            raise OnnxFileError(f"it has {scale.shape[0]} scales for {data.shape[axis]} channels")
    if eight_bits not in (INT8, UINT8):
        raise OnnxFileError(f"its zero point has the data type {eight_bits}; 8 bits are read")
    wanted, given = (FLOAT, eight_bits) if call.node.operator == "QuantizeLinear" else (eight_bits, FLOAT)
    if data.element_type != wanted and not (zero is None and data.element_type == INT8 and given == FLOAT):
        raise OnnxFileError(f"its input has the data type {data.element_type}; {wanted} is right")
    return given, data.shape, 1
