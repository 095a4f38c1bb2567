"""An ONNX file as plain dataclasses, for the check of a bundle and for the torch engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.onnx_model.wire_format import (
    LONGEST_NAME_BYTES,
    SHORT,
    OnnxFileError,
    read_fields,
    shown,
)

MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 40
"""Of a tensor, stored or computed. Larger sizes are not even computed with."""

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE = 1, 2, 3, 6, 7, 9, 10, 11
"""`TensorProto.DataType`, those that a bundle's graph can have."""

NUMPY_TYPES: Mapping[int, Any] = {
    FLOAT: np.dtype("<f4"),
    UINT8: np.dtype("u1"),
    INT8: np.dtype("i1"),
    INT32: np.dtype("<i4"),
    INT64: np.dtype("<i8"),
    BOOL: np.dtype("?"),
    FLOAT16: np.dtype("<f2"),
    DOUBLE: np.dtype("<f8"),
}


@dataclass(frozen=True)
class OnnxValueInfo:
    """An input or output of the graph; a dimension is a number, a name, or None where the file says neither."""

    name: str
    element_type: int
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class OnnxNode:
    """One operation. An attribute is int, float, bytes, NDArray (a tensor), or a tuple of one of the first three."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the node {shown(self.name or '?')} ({shown(self.operator)})"


@dataclass(frozen=True)
class OnnxModel:
    """The graph of a file. `initializers` are views of the file's bytes, not to be written to."""

    ir_version: int
    opset: int
    nodes: tuple[OnnxNode, ...]
    initializers: Mapping[str, NDArray[Any]]
    inputs: tuple[OnnxValueInfo, ...]
    outputs: tuple[OnnxValueInfo, ...]


def read_onnx(contents: bytes) -> OnnxModel:
    """The model in the bytes of an ONNX file.

    Raises:
        OnnxFileError: it is none, or holds something that no graph of a bundle has (other files, subgraphs, functions,
            strings, operators of other domains).
    """
    read = read_fields(contents)
    if "graph" not in read:
        raise OnnxFileError("it holds no graph; is it an ONNX file?")
    domains = {opset.get("domain", "") for opset in read.get("opset_import", [])}
    opsets = [opset.get("version", 0) for opset in read.get("opset_import", [])]
    if domains != {""} or len(opsets) != 1:
        raise OnnxFileError(
            f"it imports the operator sets {SHORT.repr(sorted(domains))}; a bundle's graph has ONNX's own, once"
        )
    graph = read["graph"]
    initializers: dict[str, NDArray[Any]] = {}
    for tensor in graph.get("initializer", []):
        name = tensor.get("name", "")
        if not name or name in initializers:
            raise OnnxFileError(f"two initializers have the name {shown(name)}, or it is empty")
        initializers[name] = _tensor(tensor)
    return OnnxModel(
        ir_version=read.get("ir_version", 0),
        opset=opsets[0],
        nodes=tuple(_node(node) for node in graph.get("node", [])),
        initializers=initializers,
        inputs=tuple(_value_info(value) for value in graph.get("input", [])),
        outputs=tuple(_value_info(value) for value in graph.get("output", [])),
    )


def _node(node: Mapping[str, Any]) -> OnnxNode:
    operator, name = node.get("op_type", ""), node.get("name", "")
    if node.get("domain", "") or node.get("overload", ""):
        raise OnnxFileError(
            f"the node {shown(name)} is {shown(operator)} of the domain {shown(node.get('domain', ''))}; a bundle's "
            "graph has ONNX's own operators only"
        )
    attributes: dict[str, Any] = {}
    for attribute in node.get("attribute", []):
        key = attribute.get("name", "")
        if not key or key in attributes:
            raise OnnxFileError(f"the node {shown(name)} has the attribute {shown(key)} twice, or without a name")
        attributes[key] = _attribute(key, attribute)
    return OnnxNode(operator, name, tuple(node.get("input", [])), tuple(node.get("output", [])), attributes)


_ATTRIBUTES: dict[int, tuple[str, Any, Callable[[Any], Any]]] = {
    1: ("f", 0.0, float),
    2: ("i", 0, int),
    3: ("s", b"", bytes),
    4: ("t", None, lambda tensor: _tensor(tensor)),
    6: ("floats", (), tuple),
    7: ("ints", (), tuple),
    8: ("strings", (), lambda strings: tuple(bytes(s) for s in strings)),
}
"""`AttributeProto.AttributeType`: the field that holds the value, its default, and how it is read."""


def _attribute(key: str, attribute: Mapping[str, Any]) -> Any:
    kind = attribute.get("type", 0)
    if kind not in _ATTRIBUTES:
        raise OnnxFileError(f"the attribute {shown(key)} has the type {kind}, which a bundle's graph does not have")
    field, default, read = _ATTRIBUTES[kind]
    others = sorted(set(attribute) - {"name", "type", "doc_string", field})
    if others:
        raise OnnxFileError(f"the attribute {shown(key)} has a value in {others[0]} and says that it is in {field}")
    value = attribute.get(field, default)
    if value is None:
        raise OnnxFileError(f"the attribute {shown(key)} says that it is a tensor, and has none")
    if field == "s" and len(value) > LONGEST_NAME_BYTES:
        raise OnnxFileError(f"the attribute {shown(key)} has {len(value)} bytes; at most {LONGEST_NAME_BYTES}")
    return read(value)


_DATA_FIELDS = {
    "float_data": (FLOAT,),
    "int32_data": (UINT8, INT8, INT32, BOOL, FLOAT16),
    "int64_data": (INT64,),
    "double_data": (DOUBLE,),
}


def _tensor(tensor: Mapping[str, Any]) -> NDArray[Any]:
    name = shown(tensor.get("name", ""))
    if tensor.get("data_location", 0) != 0 or "external_data" in tensor:
        raise OnnxFileError(
            f"the tensor {name} has values in another file, which the SHA-256 does not cover. Save the model with its "
            "weights inside, onnx.save(model, path, save_as_external_data=False)"
        )
    kind = tensor.get("data_type", 0)
    if kind not in NUMPY_TYPES:
        raise OnnxFileError(f"the tensor {name} has the data type {kind}, which a bundle's graph does not have")
    dims = tuple(tensor.get("dims", []))
    if len(dims) > MOST_DIMENSIONS or any(dim < 0 for dim in dims):
        raise OnnxFileError(f"the tensor {name} has the dimensions {SHORT.repr(dims)}; at most 8, none negative")
    if math.prod(max(dim, 1) for dim in dims) > MOST_ELEMENTS:
        raise OnnxFileError(
            f"the tensor {name} has the dimensions {SHORT.repr(dims)}: more than {MOST_ELEMENTS} elements"
        )
    count, dtype = math.prod(dims), NUMPY_TYPES[kind]
    there = [field for field in ("raw_data", *_DATA_FIELDS) if field in tensor]
    if len(there) > 1:
        raise OnnxFileError(f"the tensor {name} has values in {' and '.join(there)}; one of them is right")
    if not there or there == ["raw_data"]:
        raw = tensor.get("raw_data", b"")
        if len(raw) != count * dtype.itemsize:
            raise OnnxFileError(
                f"the tensor {name} has {len(raw)} bytes of values; its dimensions {SHORT.repr(dims)} need "
                f"{count * dtype.itemsize}"
            )
        if kind == BOOL and bytes(raw).strip(b"\0\1"):
            raise OnnxFileError(f"the tensor {name} has truth values other than 0 and 1")
        return np.frombuffer(raw, dtype).reshape(dims)
    [field] = there
    values = tensor[field]
    if kind not in _DATA_FIELDS[field] or len(values) != count:
        raise OnnxFileError(
            f"the tensor {name} has {len(values)} values in {field}; its type {kind} and its dimensions "
            f"{SHORT.repr(dims)} want {count}, maybe elsewhere"
        )
    stored = np.dtype("<u2") if kind == FLOAT16 else dtype
    try:
        array = np.array(values, np.int64).astype(stored) if stored.kind in "iub" else np.array(values, stored)
    except OverflowError as error:
        raise OnnxFileError(f"the tensor {name} has values that its type {kind} cannot hold") from error
    if stored.kind in "iub" and array.astype(np.int64).tolist() != values:
        raise OnnxFileError(f"the tensor {name} has values that its type {kind} cannot hold")
    return array.view(dtype).reshape(dims)


def _value_info(value: Mapping[str, Any]) -> OnnxValueInfo:
    tensor = value.get("type", {}).get("tensor_type", {})
    shape: tuple[int | str | None, ...] | None = None
    if "shape" in tensor:
        dims = tensor["shape"].get("dim", [])
        shape = tuple(dim.get("dim_value", dim.get("dim_param") or None) for dim in dims)
    return OnnxValueInfo(value.get("name", ""), tensor.get("elem_type", 0), shape)
