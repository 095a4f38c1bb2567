"""Computes the values that give shapes: few numbers, known before the graph runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.onnx_model.array_operators import constant_value, slices
from ros_ood_perception.bundle.onnx_model.model_file import INT64, NUMPY_TYPES
from ros_ood_perception.bundle.onnx_model.rules import Call
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

Array = NDArray[Any]

MOST_ELEMENTS = 4096
"""Of a value that is kept. Shapes, scales and positions of a window's pixels have fewer."""


def known_value(call: Call, element_type: int, shape: tuple[Any, ...]) -> Array | None:
    """The value of a node's output; None where it is not known, or too large to be about shapes.

    Args:
        call: checked by its operator's rule, which gave `element_type` and `shape`.
    """
    operator = call.node.operator
    if not all(isinstance(side, int) for side in shape) or np.prod(shape, dtype=np.float64) > MOST_ELEMENTS:
        return None
    if operator == "Constant":
        return constant_value(call.node)
    if operator == "Shape":
        sides = call.input(0).shape[slice(call.attribute("start", 0), call.attribute("end", None))]
        return np.array(sides, object if any(isinstance(s, str) for s in sides) else np.int64)
    values = [None if info is None else info.value for info in call.inputs]
    if any(info is not None and info.value is None for info in call.inputs):
        return None
    if any(value is not None and value.dtype == object for value in values):
        function = _OF_NAMES.get(operator)
        return None if function is None else _narrowed(function(call, values).reshape(shape))
    function = _OF_NUMBERS.get(operator) or _OF_NAMES.get(operator)
    if function is None:
        return None
    with np.errstate(all="ignore"):
        # A scalar stays an array: NumPy's operators would make a number of it.
        return np.asarray(function(call, values)).astype(NUMPY_TYPES[element_type]).reshape(shape)


def _narrowed(value: Array) -> Array:
    """Integers alone become an array of integers again."""
    return value if any(isinstance(item, str) for item in value.flat) else value.astype(np.int64)


def _sliced(call: Call, values: list[Any]) -> Array:
    parts = [slice(None)] * values[0].ndim
    for axis, part in slices(call):
        parts[axis] = part
    return np.asarray(values[0][tuple(parts)])


def _joined(call: Call, values: list[Any]) -> Array:
    if any(value.dtype == object for value in values):
        values = [value.astype(object) for value in values]
    return np.concatenate(values, axis=call.attribute("axis", 0))


def _gathered(call: Call, values: list[Any]) -> Array:
    return np.asarray(np.take(values[0], values[1].astype(np.int64), axis=call.attribute("axis", 0)))


def _itself(_: Call, values: list[Any]) -> Array:
    return np.asarray(values[0])


def _cast_names(call: Call, values: list[Any]) -> Array:
    if call.attribute("to", 0) != INT64:
        raise OnnxFileError("it casts the frame's height or width to another type than 64-bit integers")
    return _itself(call, values)


_Function = Callable[[Call, list[Any]], Array]

_OF_NAMES: dict[str, _Function] = {
    "Identity": _itself,
    "Cast": _cast_names,
    "Unsqueeze": _itself,
    "Squeeze": _itself,
    "Slice": _sliced,
    "Concat": _joined,
    "Gather": _gathered,
}
"""Operators that only move their inputs, and so also take names of dimensions."""


def _divided(_: Call, values: list[Any]) -> Array:
    first, second = values
    if first.dtype.kind == "f":
        return np.asarray(first / second)
    # Towards zero, as the engines do; the divisor is at least 1.
    return np.asarray(np.sign(first) * (np.abs(first) // second))


_OF_NUMBERS: dict[str, _Function] = {
    "Cast": _itself,
    "Reshape": _itself,
    "Add": lambda _, values: values[0] + values[1],
    "Sub": lambda _, values: values[0] - values[1],
    "Mul": lambda _, values: values[0] * values[1],
    "Div": _divided,
    "Mod": lambda call, values: (np.fmod if call.attribute("fmod", 0) else np.mod)(values[0], values[1]),
    "Neg": lambda _, values: -values[0],
    "Equal": lambda _, values: values[0] == values[1],
    "GreaterOrEqual": lambda _, values: values[0] >= values[1],
    "Not": lambda _, values: ~values[0],
    "Where": lambda _, values: np.where(values[0], values[1], values[2]),
    "Range": lambda _, values: np.arange(int(values[0].item()), int(values[1].item()), int(values[2].item())),
    "ConstantOfShape": lambda call, values: np.full(
        tuple(values[0].tolist()), call.attribute("value", np.zeros(1, np.float32)).item()
    ),
    "Expand": lambda _, values: np.broadcast_to(
        values[0], np.broadcast_shapes(values[0].shape, tuple(values[1].tolist()))
    ),
    "Transpose": lambda call, values: np.transpose(values[0], call.attribute("perm", None)),
}
