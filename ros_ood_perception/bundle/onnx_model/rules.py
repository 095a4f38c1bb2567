"""The form of an operator's rule: it checks a node's inputs and gives the shape of its output, without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.onnx_model.model_file import INT64, OnnxNode
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

LONGEST_LIST = 64
"""Of a list of integers such as a shape, sizes or axes."""

Dimension = int | str
"""A number, or a name for the frame's height or width, which are unknown until a frame arrives."""
Shape = tuple[Dimension, ...]


@dataclass(frozen=True)
class TensorInfo:
    """What is known about a tensor before the graph runs.

    Attributes:
        element_type: of `TensorProto.DataType`.
        value: its contents where they are known and few, such as shapes, sizes and scales. An array of objects also
            holds names of dimensions.
        constant: whether it is the same for every frame.
    """

    element_type: int
    shape: Shape
    value: NDArray[Any] | None = None
    constant: bool = False

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape, which must not contain the frame's height and width.

        Raises:
            OnnxFileError: it does.
        """
        if any(isinstance(side, str) for side in self.shape):
            raise OnnxFileError(
                f"a tensor of the shape {self.shape} must be resized to the bundle's input size first: the frame's "
                "height and width may not go further into the graph"
            )
        return tuple(int(side) for side in self.shape)


@dataclass(frozen=True)
class Call:
    """One node with the known facts about its inputs."""

    node: OnnxNode
    inputs: Sequence[TensorInfo | None]

    def input(self, index: int) -> TensorInfo:
        """That input; the rule needs it."""
        found = self.optional(index)
        if found is None:
            raise OnnxFileError(f"its input {index} is missing")
        return found

    def optional(self, index: int) -> TensorInfo | None:
        """That input, or None."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attribute(self, name: str, default: Any) -> Any:
        """That attribute, or the default."""
        return self.node.attributes.get(name, default)

    def integers(self, index: int) -> list[Any] | None:
        """The known integers (or names of dimensions) of an input; None where the input is left out."""
        found = self.optional(index)
        if found is None:
            return None
        if (
            found.value is None
            or found.value.ndim > 1
            or found.value.size > LONGEST_LIST
            or found.element_type != INT64
        ):
            raise OnnxFileError(
                f"its input {index} must be a list of at most {LONGEST_LIST} 64-bit integers, known before it runs"
            )
        return list(np.atleast_1d(found.value).tolist())

    def axis(self, given: Any, rank: int) -> int:
        """An axis, counted from the front."""
        if not isinstance(given, int) or not -rank <= given < rank:
            raise OnnxFileError(f"its axis is {given}; the tensor has {rank} dimensions")
        return given % rank


Rule = Callable[[Call], tuple[int, Shape, int]]
"""Gives the element type, the shape, and the number of operations for each element of the output."""


@dataclass(frozen=True)
class Operator:
    """inputs: fewest and most. attributes: name to type."""

    rule: Rule
    inputs: tuple[int, int]
    attributes: dict[str, type]


def adding_to(table: dict[str, Operator]) -> Callable[..., Callable[[Rule], Rule]]:
    """A decorator for the rules of a table: names, fewest and most inputs, and the attributes with their types."""

    def operator(names: str, fewest: int, most: int, **attributes: type) -> Callable[[Rule], Rule]:
        def add(rule: Rule) -> Rule:
            table.update({name: Operator(rule, (fewest, most), attributes) for name in names.split()})
            return rule

        return add

    return operator


def broadcast(*shapes: Shape) -> Shape:
    """NumPy's broadcasting, with names of dimensions.

    Raises:
        OnnxFileError: the shapes do not fit.
    """
    rank = max(map(len, shapes))
    found: list[Dimension] = []
    for sides in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        wide = {side for side in sides if side != 1}
        if len(wide) > 1:
            raise OnnxFileError(f"shapes {', '.join(map(str, shapes))} do not fit each other")
        found.append(wide.pop() if wide else 1)
    return tuple(found)
