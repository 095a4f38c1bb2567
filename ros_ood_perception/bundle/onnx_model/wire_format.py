"""Reads the bytes of an ONNX file as fields by name. Fields that ONNX's schema does not have are refused, not skipped.

The check of a bundle and the engine that runs it must see the same graph. Protobuf lets readers differ: in unknown
fields, duplicate fields and long forms of a number. Exporters write none of these, so all are refused. The package
`onnx` is not installed on a vehicle. Format: onnx.proto of ONNX 1.23, and protobuf's encoding guide
(protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import reprlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ros_ood_perception.errors import PerceptionError

MOST_FIELDS = 400_000
"""Of all messages of one file."""
MOST_SMALL_NUMBERS = 1 << 20
"""Numbers of a file outside `raw_data`. Each of them takes many times its bytes while it is read."""
LONGEST_NAME_BYTES = 4096


class OnnxFileError(PerceptionError, ValueError):
    """Bytes that are not an ONNX file as exporters write it. The message says what was found where, and the remedy."""


SHORT = reprlib.Repr()
SHORT.maxstring = 80


def shown(text: str) -> str:
    """A name of the file for errors: shortened, and with control characters escaped."""
    return SHORT.repr(text)


def read_fields(contents: bytes) -> dict[str, Any]:
    """The fields of a `ModelProto` by name: numbers, str, memoryview for bytes, dict for a message, or a list of these.

    Raises:
        OnnxFileError: not the protobuf that exporters write, or a field that no graph of a bundle has.
    """
    return _Reader(contents).message("model", 0, len(contents))


@dataclass(frozen=True)
class _Field:
    """kind: int (64 bits, signed), enum (0 to 2^31 - 1), float, double, bytes, text, or the name of a message."""

    name: str
    kind: str
    repeated: bool = False


@dataclass(frozen=True)
class _Refused:
    why: str


_SUBGRAPH = "holds a graph of its own, as If, Loop and Scan have; a bundle's graph has none"

_MESSAGES: dict[str, dict[int, _Field | _Refused]] = {
    "model": {
        1: _Field("ir_version", "int"),
        2: _Field("producer_name", "text"),
        3: _Field("producer_version", "text"),
        4: _Field("domain", "text"),
        5: _Field("model_version", "int"),
        6: _Field("doc_string", "text"),
        7: _Field("graph", "graph"),
        8: _Field("opset_import", "opset", True),
        14: _Field("metadata_props", "property", True),
        20: _Refused("holds training information; a bundle's graph has none"),
        25: _Refused("holds functions of its own; a bundle's graph has ONNX's operators only"),
        26: _Refused("holds device configurations; a bundle's graph has none"),
    },
    "opset": {1: _Field("domain", "text"), 2: _Field("version", "int")},
    "property": {1: _Field("key", "text"), 2: _Field("value", "text")},
    "graph": {
        1: _Field("node", "node", True),
        2: _Field("name", "text"),
        5: _Field("initializer", "tensor", True),
        10: _Field("doc_string", "text"),
        11: _Field("input", "value", True),
        12: _Field("output", "value", True),
        13: _Field("value_info", "value", True),
        14: _Refused("holds quantisation annotations; a bundle's graph has QuantizeLinear nodes instead"),
        15: _Refused("holds sparse tensors; a bundle's graph has plain ones"),
        16: _Field("metadata_props", "property", True),
    },
    "value": {
        1: _Field("name", "text"),
        2: _Field("type", "type"),
        3: _Field("doc_string", "text"),
        4: _Field("metadata_props", "property", True),
    },
    "type": {
        1: _Field("tensor_type", "tensor type"),
        4: _Refused("is a sequence; a bundle's graph has tensors only"),
        5: _Refused("is a map; a bundle's graph has tensors only"),
        6: _Field("denotation", "text"),
        8: _Refused("is a sparse tensor; a bundle's graph has plain ones"),
        9: _Refused("is optional; a bundle's graph has tensors only"),
    },
    "tensor type": {1: _Field("elem_type", "enum"), 2: _Field("shape", "shape")},
    "shape": {1: _Field("dim", "dimension", True)},
    "dimension": {1: _Field("dim_value", "int"), 2: _Field("dim_param", "text"), 3: _Field("denotation", "text")},
    "node": {
        1: _Field("input", "text", True),
        2: _Field("output", "text", True),
        3: _Field("name", "text"),
        4: _Field("op_type", "text"),
        5: _Field("attribute", "attribute", True),
        6: _Field("doc_string", "text"),
        7: _Field("domain", "text"),
        8: _Field("overload", "text"),
        9: _Field("metadata_props", "property", True),
        10: _Refused("holds device configurations; a bundle's graph has none"),
    },
    "attribute": {
        1: _Field("name", "text"),
        2: _Field("f", "float"),
        3: _Field("i", "int"),
        4: _Field("s", "bytes"),
        5: _Field("t", "tensor"),
        6: _Refused(_SUBGRAPH),
        7: _Field("floats", "float", True),
        8: _Field("ints", "int", True),
        9: _Field("strings", "bytes", True),
        10: _Refused("holds a list of tensors; no operator of a bundle's graph takes one"),
        11: _Refused(_SUBGRAPH),
        13: _Field("doc_string", "text"),
        14: _Refused("holds a type; no operator of a bundle's graph takes one"),
        15: _Refused("holds types; no operator of a bundle's graph takes them"),
        20: _Field("type", "enum"),
        21: _Refused("refers to an attribute of a function; a bundle's graph has no functions"),
        22: _Refused("holds a sparse tensor; a bundle's graph has plain ones"),
        23: _Refused("holds sparse tensors; a bundle's graph has plain ones"),
    },
    "tensor": {
        1: _Field("dims", "int", True),
        2: _Field("data_type", "enum"),
        3: _Refused("is in segments; save it whole"),
        4: _Field("float_data", "float", True),
        5: _Field("int32_data", "int", True),
        6: _Refused("holds strings; a bundle's graph has numbers only"),
        7: _Field("int64_data", "int", True),
        8: _Field("name", "text"),
        9: _Field("raw_data", "bytes"),
        10: _Field("double_data", "double", True),
        11: _Refused("holds unsigned 64-bit numbers; no operator of a bundle's graph takes them"),
        12: _Field("doc_string", "text"),
        13: _Field("external_data", "bytes", True),
        14: _Field("data_location", "enum"),
        16: _Field("metadata_props", "property", True),
    },
}
"""onnx.proto: the fields of each message, by number."""

_WIRE_TYPES = {"int": 0, "enum": 0, "double": 1, "float": 5}
_FIXED: dict[str, tuple[int, str]] = {"float": (4, "<f"), "double": (8, "<d")}


class _Reader:
    """One pass over a file, with limits for the whole file."""

    def __init__(self, contents: bytes) -> None:
        self._bytes = memoryview(contents)
        self._fields = MOST_FIELDS
        self._numbers = MOST_SMALL_NUMBERS

    def message(self, kind: str, position: int, end: int) -> dict[str, Any]:
        """Fields by name: a value, or a list where the field is repeated. Nesting is as deep as `_MESSAGES` is."""
        known = _MESSAGES[kind]
        found: dict[str, Any] = {}
        while position < end:
            self._fields -= 1
            if self._fields < 0:
                raise OnnxFileError(f"it has more than {MOST_FIELDS} fields; a bundle's graph has fewer")
            tag, position = self._varint(position, end)
            number, wire_type = tag >> 3, tag & 7
            field = known.get(number)
            if field is None:
                raise OnnxFileError(f"a {kind} has the field {number}, which ONNX does not know")
            if isinstance(field, _Refused):
                raise OnnxFileError(f"the {kind} {shown(found.get('name', ''))} {field.why}")
            packed = field.repeated and wire_type == 2 and field.kind in _WIRE_TYPES
            if wire_type != (2 if packed else _WIRE_TYPES.get(field.kind, 2)):
                raise OnnxFileError(f"the field {field.name} of a {kind} has another type than ONNX gives it")
            if packed:
                start, position = self._length(position, end)
                found.setdefault(field.name, []).extend(self._packed(field, start, position))
                continue
            value, position = self._value(field, position, end)
            if field.repeated:
                found.setdefault(field.name, []).append(value)
            elif field.name in found:
                raise OnnxFileError(
                    f"the field {field.name} of a {kind} is there twice, which readers take differently"
                )
            else:
                found[field.name] = value
        return found

    def _value(self, field: _Field, position: int, end: int) -> tuple[Any, int]:
        if field.kind in ("int", "enum"):
            value, position = self._varint(position, end)
            if field.kind == "enum" and value >= 1 << 31:
                raise OnnxFileError(f"the field {field.name} is {value}; it has 31 bits")
            self._spend_numbers(1)
            return value - (1 << 64 if value >= 1 << 63 else 0), position
        if field.kind in _FIXED:
            size, form = _FIXED[field.kind]
            if position + size > end:
                raise OnnxFileError("it ends in the middle of a field; copy the whole file")
            self._spend_numbers(1)
            return struct.unpack_from(form, self._bytes, position)[0], position + size
        start, stop = self._length(position, end)
        if field.kind == "bytes":
            return self._bytes[start:stop], stop
        if field.kind == "text":
            if stop - start > LONGEST_NAME_BYTES and field.name != "doc_string":
                raise OnnxFileError(f"the field {field.name} has {stop - start} bytes; at most {LONGEST_NAME_BYTES}")
            try:
                return str(self._bytes[start:stop], "utf-8"), stop
            except UnicodeDecodeError as error:
                raise OnnxFileError(f"the field {field.name} is not UTF-8 ({error.reason})") from error
        return self.message(field.kind, start, stop), stop

    def _packed(self, field: _Field, position: int, end: int) -> list[Any]:
        if field.kind in _FIXED:
            size, form = _FIXED[field.kind]
            count, rest = divmod(end - position, size)
            if rest:
                raise OnnxFileError(f"the field {field.name} has {rest} bytes too many")
            self._spend_numbers(count)
            return list(np.frombuffer(self._bytes[position:end], form).tolist())
        values = []
        while position < end:
            value, position = self._value(field, position, end)
            values.append(value)
        return values

    def _spend_numbers(self, count: int) -> None:
        self._numbers -= count
        if self._numbers < 0:
            raise OnnxFileError(
                f"it has more than {MOST_SMALL_NUMBERS} numbers outside of raw_data; save weights as raw data, as "
                "onnx.numpy_helper.from_array does"
            )

    def _length(self, position: int, end: int) -> tuple[int, int]:
        length, start = self._varint(position, end)
        if start + length > end:
            raise OnnxFileError("it ends in the middle of a field; copy the whole file")
        return start, start + length

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end:
            byte = self._bytes[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                # A last byte of zero, and bits beyond the 64th: forms that readers take differently.
                if (byte == 0 and shift) or value >= 1 << 64:
                    raise OnnxFileError("a number in it is longer than it need be, which no exporter writes")
                return value, position
            shift += 7
            if shift > 63:
                raise OnnxFileError("a number in it has more than ten bytes")
        raise OnnxFileError("it ends in the middle of a number; copy the whole file")
