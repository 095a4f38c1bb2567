"""The strict reader of ONNX files: equal to the package `onnx` on what exporters write, and nothing else is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.bundle.onnx_model.model_file import read_onnx
from ros_ood_perception.bundle.onnx_model.wire_format import MOST_FIELDS, MOST_SMALL_NUMBERS, OnnxFileError, read_fields

ROOT = Path(__file__).resolve().parents[3]


def varint(value: int, longer: int = 0) -> bytes:
    found = bytearray()
    while value > 0x7F or (longer and len(found) < longer):
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


def field(number: int, contents: bytes | int, longer: int = 0) -> bytes:
    if isinstance(contents, int):
        return varint(number << 3, longer) + varint(contents)
    return varint(number << 3 | 2, longer) + varint(len(contents)) + contents


OPSET = field(8, field(2, 17))
EMPTY = field(1, 8) + field(7, b"") + OPSET
"""A model without anything in its graph."""


def tensor(*parts: bytes) -> bytes:
    """A model with one initializer of these fields."""
    return field(1, 8) + field(7, field(5, b"".join(parts))) + OPSET


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*/*.onnx")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_is_read_is_what_the_package_onnx_reads(path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    found, expected = read_onnx(path.read_bytes()), onnx.load(path)
    assert found.opset == expected.opset_import[0].version
    assert list(found.initializers) == [t.name for t in expected.graph.initializer]
    for stored in expected.graph.initializer:
        np.testing.assert_array_equal(found.initializers[stored.name], onnx.numpy_helper.to_array(stored))
    assert len(found.nodes) == len(expected.graph.node)
    for one, other in zip(found.nodes, expected.graph.node, strict=True):
        assert (one.operator, one.name, one.inputs, one.outputs) == (
            other.op_type,
            other.name,
            tuple(other.input),
            tuple(other.output),
        )
        for attribute in other.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, onnx.TensorProto):
                np.testing.assert_array_equal(one.attributes[attribute.name], onnx.numpy_helper.to_array(value))
            else:
                assert one.attributes[attribute.name] == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    "make",
    [
        lambda h, n: h.make_tensor("x", 1, [3], [1.0, -2.5, 3e8]),
        lambda h, n: h.make_tensor("x", 10, [2], [1.0, -2.5]),
        lambda h, n: h.make_tensor("x", 7, [2], [-(2**63), 2**63 - 1]),
        lambda h, n: h.make_tensor("x", 3, [2], [-128, 127]),
        lambda h, n: h.make_tensor("x", 9, [2], [True, False]),
        lambda h, n: h.make_tensor("x", 11, [], [0.1]),
        lambda h, n: n.from_array(np.arange(6, dtype=np.int32).reshape(1, 2, 3), "x"),
        lambda h, n: n.from_array(np.zeros((0, 4), np.uint8), "x"),
    ],
)
def test_tensors_in_every_form_that_onnx_writes(make: Callable[[Any, Any], Any]) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    stored = make(onnx.helper, onnx.numpy_helper)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [stored]))
    [found] = read_onnx(model.SerializeToString()).initializers.values()
    expected = onnx.numpy_helper.to_array(stored)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# Each of these is read by a protobuf library, differently from another reader or not at all as it looks.
NAME, FLOATS, DIM = field(8, b"w"), field(2, 1), field(1, 1)
OUTSIDE = field(13, field(1, b"location") + field(2, b"w.bin")) + field(14, 1)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "holds no graph"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "more than ten bytes"),
        (EMPTY + field(7, b""), "the field graph of a model is there twice"),
        (tensor(NAME, NAME, FLOATS), "the field name of a tensor is there twice"),
        (tensor(NAME, FLOATS, field(14, 0), field(14, 1)), "there twice"),
        (EMPTY + field(99, b"x"), "a model has the field 99, which ONNX does not know"),
        (EMPTY + field(0, b""), "the field 0"),
        (EMPTY + varint(15 << 3 | 3) + varint(15 << 3 | 4), "the field 15"),
        (EMPTY + varint(7 << 3 | 3) + varint(7 << 3 | 4), "has another type than ONNX gives it"),
        (EMPTY + varint(7 << 3 | 7), "has another type"),
        (EMPTY + field((1 << 29) + 7, b""), "the field 536870919"),
        (EMPTY + field(20, b""), "holds training information"),
        (EMPTY + field(25, b""), "holds functions of its own"),
        (EMPTY + field(8, field(1, b"com.microsoft") + field(2, 1)), "the operator sets"),
        (field(7, b""), "the operator sets"),
        # Weights in another file, in the forms that hide it: a long tag, after the name and before it, a number that
        # is 1 only in its low 32 bits.
        (tensor(NAME, FLOATS, DIM, OUTSIDE), "'w' has values in another file"),
        (tensor(FLOATS, DIM, OUTSIDE, NAME), "'w' has values in another file"),
        (tensor(NAME, FLOATS, DIM, field(14, 1)), "'w' has values in another file"),
        (tensor(NAME, FLOATS, DIM, field(14, 1, longer=4)), "longer than it need be"),
        (tensor(NAME, FLOATS, DIM, varint(14 << 3) + varint((1 << 32) + 1)), "it has 31 bits"),
        (tensor(NAME, FLOATS, DIM, varint(14 << 3) + varint(1, longer=3)), "longer than it need be"),
        (field(1, 8) + field(7, field(5, OUTSIDE + NAME, longer=4)) + OPSET, "longer than it need be"),
        (field(1, 8) + field(7, field(15, b"")) + OPSET, "holds sparse tensors"),
        (field(1, 8) + field(7, field(1, field(5, field(6, b"")))) + OPSET, "as If, Loop and Scan have"),
        (field(1, 8) + field(7, field(1, field(5, field(11, b"")))) + OPSET, "as If, Loop and Scan have"),
        (field(1, 8) + field(7, field(1, field(5, field(21, b"x")))) + OPSET, "attribute of a function"),
        (field(1, 8) + field(7, field(1, field(4, b"Relu") + field(7, b"own"))) + OPSET, "ONNX's own operators only"),
        # Values that do not fit what is declared.
        (tensor(NAME, FLOATS, field(1, 1 << 40)), r"has 0 bytes of values; its dimensions .* need 4398046511104"),
        (tensor(NAME, FLOATS, field(1, 0), field(1, 2**62)), "more than 1099511627776 elements"),
        (tensor(NAME, FLOATS, *[field(1, 2**31)] * 3), "more than 1099511627776 elements"),
        (tensor(NAME, FLOATS, varint(8) + varint((1 << 64) - 1)), "none negative"),
        (tensor(NAME, FLOATS, *[DIM] * 9), "at most 8"),
        (tensor(NAME, FLOATS, DIM, field(9, b"12345")), "has 5 bytes of values"),
        (tensor(NAME, FLOATS, DIM, field(9, b"1234"), field(4, b"1234")), "raw_data and float_data"),
        (tensor(NAME, field(2, 8), DIM), "has the data type 8"),
        (tensor(NAME, field(2, 3), DIM, field(5, varint(300))), "values that its type 3 cannot hold"),
        (tensor(NAME, field(2, 9), DIM, field(9, b"\x02")), "truth values other than 0 and 1"),
        (tensor(field(8, b"\xff"), FLOATS), "not UTF-8"),
        (tensor(field(8, b"x" * 5000), FLOATS), "has 5000 bytes; at most 4096"),
        (tensor(FLOATS, DIM, field(9, b"1234")), "two initializers have the name ''"),
    ],
)
def test_what_no_exporter_writes_is_refused_with_its_place(contents: bytes, message: str) -> None:
    with pytest.raises(OnnxFileError, match=message):
        read_onnx(contents)


def test_every_prefix_and_every_noise_is_an_error_of_its_own_kind() -> None:
    whole = (ROOT / "models" / "camvid_small" / "model.onnx").read_bytes()
    for length in [*range(64), *range(64, len(whole), 900_001)]:
        with pytest.raises(OnnxFileError):
            read_onnx(whole[:length])
    random = np.random.default_rng(0)
    for length in range(300):
        with pytest.raises(OnnxFileError):
            read_onnx(random.bytes(length))


def test_a_file_of_many_small_fields_ends_soon() -> None:
    with pytest.raises(OnnxFileError, match=f"more than {MOST_FIELDS} fields"):
        read_fields(field(7, field(1, b"") * (MOST_FIELDS + 1)))
    with pytest.raises(OnnxFileError, match=f"more than {MOST_SMALL_NUMBERS} numbers"):
        read_fields(field(7, field(5, field(7, b"\1" * (MOST_SMALL_NUMBERS + 1)))))
    with pytest.raises(OnnxFileError, match=f"more than {MOST_SMALL_NUMBERS} numbers"):
        read_fields(field(7, field(5, field(4, bytes(4 * (MOST_SMALL_NUMBERS + 1))))))


def test_errors_hold_nothing_that_a_terminal_obeys() -> None:
    with pytest.raises(OnnxFileError) as caught:
        read_onnx(tensor(field(8, b"\x1b[2J\n[INFO] all is well"), FLOATS, DIM))
    assert str(caught.value).isprintable()
