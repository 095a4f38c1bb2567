"""Finds weights that an ONNX file only points to: they lie in another file, which no digest of this one covers.

Reads protobuf itself, because the package `onnx` is not on a vehicle.
"""

from __future__ import annotations

from collections.abc import Iterator

_INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""onnx.proto3: the fields of each message, by number, in which there can be tensors."""

_TENSOR_NAME, _DATA_LOCATION, _EXTERNAL = 8, 14, 1


def external_tensor(model: bytes) -> str | None:
    """The name of a tensor of an ONNX file whose values are in another file; None: there is no such tensor.

    What is no ONNX file has none: what is wrong with it is for the engine to say.
    """
    waiting = [("model", 0, len(model))]  # not recursive: subgraphs can be nested without end
    while waiting:
        message, begin, end = waiting.pop()
        name, is_external = b"", False
        for number, start, stop, value in _fields(model, begin, end):
            if stop > start and number in _INNER[message]:
                waiting.append((_INNER[message][number], start, stop))
            elif message == "tensor" and number == _TENSOR_NAME:
                name = model[start:stop]
            elif message == "tensor" and number == _DATA_LOCATION:
                is_external |= value & 0xFFFFFFFF == _EXTERNAL
        if is_external:
            return name.decode(errors="replace")
    return None


def _fields(model: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number of each field of a message, where its contents begin and end, and its value where it is an integer.

    Ends at the first byte that is no protobuf: no engine reads such a file.
    """
    while position < end:
        tag, position = _varint(model, position, end)
        number, wire_type = tag >> 3, tag & 7
        value = length = 0
        if wire_type == 0:
            value, position = _varint(model, position, end)
        elif wire_type == 2:
            length, position = _varint(model, position, end)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        elif wire_type > 5:
            return
        # 3 and 4, around a group, have no contents of their own.
        if position + length > end:
            return
        yield number, position, position + length, value
        position += length


def _varint(model: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = model[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    return 0, end + 1
