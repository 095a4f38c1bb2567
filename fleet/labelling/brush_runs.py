"""The run-length code of Label Studio's brush masks.

The code is that of `rle-pack` (https://github.com/thi-ng/umbrella, packages/rle-pack), over the red, green, blue and
alpha of every pixel in turn. Its bits, the highest of a byte first:

- 32: number of values. 5: bits of a value, less 1. 4 times 4: bits of a length, less 1, for the four kinds of length.
- then until all values are there: 1, whether it is a run; 2, the kind of its length; the length, less 1; and the value
  of a run once, or else so many values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
ON = 255


class BrushError(PerceptionError, ValueError):
    """A brush mask that cannot be decoded. The message says why."""


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes, 0 to 255.

    >>> encode_brush(np.zeros((1, 2), bool))
    [0, 0, 0, 8, 57, 27, 252, 224, 0]
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    bits = [_bits(flat.size * CHANNELS, 32), _bits(VALUE_BITS - 1, 5), *(_bits(size - 1, 4) for size in LENGTH_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = _bits(ON if flat[start] else 0, VALUE_BITS)
        for part in _parts(length):
            kind = next(i for i, size in enumerate(LENGTH_BITS) if part <= 1 << size)
            bits += ["1", _bits(kind, 2), _bits(part - 1, LENGTH_BITS[kind]), value]
    joined = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    packed: list[int] = np.packbits(joined).tolist()
    return packed


def decode_brush(code: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """A mask (H, W), True where the brush was.

    Raises:
        BrushError: it is no such code, or of an image of another size.
    """
    try:
        data = np.array(code, np.uint8) if all(0 <= value <= 255 for value in code) else None
    except (TypeError, ValueError, OverflowError):
        data = None
    if data is None or data.ndim != 1:
        raise BrushError("a brush mask is no list of bytes")
    bits = _BitReader((np.unpackbits(data) + ord("0")).tobytes().decode())
    count = bits.take(32)
    if count != height * width * CHANNELS:
        raise BrushError(
            f"a brush mask has {count} values; an image of {width}x{height} has {height * width * CHANNELS}"
        )
    value_bits = bits.take(5) + 1
    length_bits = [bits.take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.bool_)
    place = 0
    while place < count:
        is_run = bits.take(1)
        end = place + bits.take(length_bits[bits.take(2)]) + 1
        if end > count:
            raise BrushError("a brush mask has more values than it says")
        if is_run:
            values[place:end] = bits.take(value_bits) > 0
        else:
            values[place:end] = [bits.take(value_bits) > 0 for _ in range(end - place)]
        place = end
    # The alpha of each pixel: where it is opaque, the brush was.
    return values.reshape(height, width, CHANNELS)[..., CHANNELS - 1]


def _parts(length: int) -> list[int]:
    longest = 1 << LENGTH_BITS[-1]
    whole, rest = divmod(length, longest)
    return [longest] * whole + ([rest] if rest else [])


def _bits(value: int, size: int) -> str:
    return f"{value:0{size}b}"


class _BitReader:
    def __init__(self, bits: str) -> None:
        self._bits = bits
        self._place = 0

    def take(self, size: int) -> int:
        """The number in the next bits."""
        end = self._place + size
        if end > len(self._bits):
            raise BrushError("a brush mask ends early")
        value = int(self._bits[self._place : end], 2)
        self._place = end
        return value
