"""Hostile changes of a bundle's files: in the text, in the protobuf structure, and in single bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ros_ood_perception.bundle.onnx_model.operators import OPERATORS

Random = np.random.Generator

# fmt: off
VALUES = (
    ".inf", "-.inf", ".nan", "1e400", "-1", "0", "1e-320", "9" * 30, "9" * 70, "0x" + "f" * 200, "1:1:1", "null",
    "~", "true", "yes", "''", "[]", "{}", "[[[[]]]]", "'\\e[2J'", '"\\e[2J"', '"\\n[INFO]"', '"\\u202e"',
    "!!python/object:os.system x", "!!binary aGk=", "!!set {a, b}", "!!timestamp 2001-13-45", "2001-01-01",
    "!!float 3", "!!int x", "&a [*a]", "*a", "<<: {a: 1}", "? x", "| text", "> text", "\ufeff", "\x85", "[" * 300,
    "{" * 300, "- " * 200, "a" * 300, "ö" * 300, "%YAML 1.1", "--- x", "...", "@", "`", "'", '"', "#", "\t",
)
# fmt: on


@dataclass
class Field:
    """A field of a protobuf message: its contents as bytes, a number, or the fields of a message."""

    number: int
    wire_type: int
    value: bytes | int | list[Field]
    longer: int = 0

    def encoded(self) -> bytes:
        """As it goes into the file, with the lengths that its contents have."""
        tag = varint(self.number << 3 | self.wire_type, self.longer)
        if isinstance(self.value, int):
            return tag + varint(self.value)
        contents = self.value if isinstance(self.value, bytes) else b"".join(f.encoded() for f in self.value)
        return tag + (varint(len(contents)) if self.wire_type == 2 else b"") + contents


def varint(value: int, longer: int = 0) -> bytes:
    """Protobuf's form of a number, with at least so many bytes more than it needs."""
    found = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    if not longer:
        return bytes(found) + bytes([value])
    return bytes(found) + bytes([value | 0x80]) + b"\x80" * (longer - 1) + b"\0"


MESSAGES = {
    (): {7, 8, 14},
    (7,): {1, 5, 11, 12},
    (7, 1): {5},
    (7, 1, 5): {5},
    (7, 11): {2},
    (7, 12): {2},
    (7, 11, 2): {1},
}
"""Which fields of which messages (the way there) are messages themselves."""


def fields(contents: bytes, way: tuple[int, ...] = ()) -> list[Field]:
    """The tree of a right ONNX file."""
    found, position = [], 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = contents[position]
            position, value, shift = position + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while position < len(contents):
        tag = number()
        if tag & 7 == 0:
            found.append(Field(tag >> 3, 0, number()))
            continue
        length = number() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        part, position = contents[position : position + length], position + length
        inner = tag >> 3 in MESSAGES.get(way, ())
        found.append(Field(tag >> 3, tag & 7, fields(part, (*way, tag >> 3)) if inner else part))
    return found


def _all(tree: list[Field]) -> list[tuple[list[Field], int]]:
    places = []
    for index, field in enumerate(tree):
        places.append((tree, index))
        if isinstance(field.value, list):
            places += _all(field.value)
    return places


NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    127,
    128,
    255,
    4096,
    65_535,
    1 << 20,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    -1,
    -2,
)
# fmt: off
NAMES = (
    *sorted(OPERATORS), "Loop", "If", "Scan", "NonZero", "Tile", "Einsum", "RandomNormal", "SequenceAt", "",
    "planes", "image", "semantic", "anomaly", "w", "back", "shape", "axis", "pads", "com.microsoft", "\x1b[2J",
    "x" * 5000,
)
# fmt: on


def mutated_model(model: bytes, random: Random) -> bytes:
    """One to three changes of the structure; lengths are those of what then is in the file."""
    tree = fields(model)
    for _ in range(int(random.choice([1, 1, 2, 3]))):
        places = _all(tree)
        parent, index = places[int(random.integers(len(places)))]
        field = parent[index]
        kind = int(random.integers(10))
        if kind == 0:
            del parent[index]
        elif kind == 1:
            parent.insert(index, field)
        elif kind == 2:
            parent.insert(
                index, Field(int(random.choice([0, 13, 14, 20, 25, 99, 1 << 20])), 2, b"x" * int(random.integers(9)))
            )
        elif kind == 3:
            field.longer = int(random.integers(1, 5))
        elif kind == 4:
            field.number = int(random.integers(1, 30))
        elif kind == 5:
            other_parent, other = places[int(random.integers(len(places)))]
            if not isinstance(other_parent[other].value, list):
                parent[index] = Field(field.number, other_parent[other].wire_type, other_parent[other].value)
        elif isinstance(field.value, int):
            field.value = int(random.choice(NUMBERS)) if random.random() < 0.7 else int(random.integers(1 << 16))
        elif isinstance(field.value, bytes):
            field.value = _other_bytes(field.value, random)
        else:
            # Of nodes, attributes and tensors the order and the company matter.
            random.shuffle(field.value)  # type: ignore[arg-type]
    return b"".join(field.encoded() for field in tree)


def _other_bytes(value: bytes, random: Random) -> bytes:
    kind = int(random.integers(8))
    if kind >= 5 and value and len(value) % 8 == 0:
        # A shape, a size or an axis of another value.
        numbers = np.frombuffer(value, "<i8").copy()
        numbers[int(random.integers(len(numbers)))] = random.choice([-2, -1, 0, 1, 2, 3, 5, 24, 4096, 1 << 20, 1 << 40])
        return numbers.tobytes()
    if kind == 0:
        return str(random.choice(NAMES)).encode()
    if kind == 1:
        chosen = [int(n) for n in random.choice(NUMBERS, int(random.integers(0, 6)))]
        return b"".join((n & (1 << 64) - 1).to_bytes(8, "little") for n in chosen)
    if kind == 2:
        return value[: int(random.integers(len(value) + 1))]
    if kind == 3:
        return flipped(value, random)
    return random.bytes(int(random.integers(0, 40)))


def flipped(contents: bytes, random: Random) -> bytes:
    """Some bytes changed, cut out or put in."""
    changed = bytearray(contents)
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(len(changed) + 1))
        kind = int(random.integers(4))
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del changed[place : place + int(random.integers(1, 9))]
        elif kind == 2:
            changed[place:place] = random.bytes(int(random.integers(1, 9)))
        elif place < len(changed):
            changed[place] = int(random.integers(256))
    return bytes(changed)


def mutated_text(text: str, random: Random) -> bytes:
    """One to four changes of lines and values."""
    lines = text.splitlines()
    for _ in range(int(random.integers(1, 5))):
        index = int(random.integers(len(lines)))
        kind = int(random.integers(8))
        value = str(random.choice(VALUES))
        if kind == 0 and len(lines) > 1:
            del lines[index]
        elif kind == 1:
            lines.insert(index, lines[int(random.integers(len(lines)))])
        elif kind == 2:
            lines.insert(index, value)
        elif kind == 3:
            lines[index] = re.sub(r":.*", lambda _, value=value: f": {value}", lines[index])  # type: ignore[misc]
        elif kind == 4:
            lines[index] = re.sub(r"[\w.]+(?=[,\]}]|$)", lambda _, value=value: value, lines[index], count=1)  # type: ignore[misc]
        elif kind == 5:
            lines[index] = "  " * int(random.integers(4)) + lines[index].strip()
        elif kind == 6:
            lines[index] = lines[index] + value
        else:
            return flipped("\n".join(lines).encode(), random)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
