"""Untrusted PNG: checks its chunks, and makes a minimal PNG of the same pixels.

A decoder gets IHDR, PLTE and IDAT only. Text, colour profiles, EXIF, alpha tables and animation frames are dropped;
OpenCV 4.11 writes outside its memory for some of them. The zlib stream is inflated here, to at most the size that the
header declares, and passed on uncompressed. So a false image takes no more memory than a true one.

Source: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ros_ood_perception.camera.raw_image import MalformedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
COLOUR_NAMES = {GREY: "grey", RGB: "RGB", PALETTE: "a palette", GREY_ALPHA: "grey with alpha", RGBA: "RGBA"}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
MAX_CHUNKS = 1 << 16
"""An encoder writes 8 KiB of pixels a chunk or more, so this is enough for half a gigabyte."""
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step, row step of each pass of an interlaced image."""
STORED_BLOCK = 0xFFFF
BLOCKS_A_CHUNK = 32
"""2 MiB: OpenCV 4.11 reads no chunk of more than 8 MB."""


@dataclass(frozen=True)
class Png:
    """The checked parts of one PNG.

    Attributes:
        depth: bits a sample.
        colour_type: a key of `CHANNELS`.
        palette: PLTE; empty where the colour type needs none.
        pixels: contents of the IDAT chunks, one zlib stream.
    """

    height: int
    width: int
    depth: int
    colour_type: int
    interlaced: bool
    palette: bytes = field(repr=False)
    pixels: tuple[memoryview, ...] = field(repr=False)

    @property
    def passes(self) -> Iterator[tuple[int, int]]:
        """Rows of every pass that has pixels, and bytes a row without its filter byte."""
        bits = self.depth * CHANNELS[self.colour_type]
        whole = ((0, 0, 1, 1),)
        for left, top, column_step, row_step in ADAM7 if self.interlaced else whole:
            columns = -(-(self.width - left) // column_step)
            rows = -(-(self.height - top) // row_step)
            if columns > 0 and rows > 0:
                yield rows, (columns * bits + 7) // 8

    def rebuilt(self, palette_as_grey: bool = False) -> bytes:
        """A PNG of the same pixels, of IHDR, PLTE and IDAT only, uncompressed.

        Args:
            palette_as_grey: write the indices of a palette as grey values, and drop its colours.

        Raises:
            MalformedImageError: the pixels are not those that the header declares.
        """
        raw, checksum = self._inflated()
        colour_type = GREY if palette_as_grey and self.colour_type == PALETTE else self.colour_type
        header = struct.pack(
            ">IIBBBBB", self.width, self.height, self.depth, colour_type, 0, 0, 1 if self.interlaced else 0
        )
        parts = [SIGNATURE, *_chunk(b"IHDR", [header])]
        if colour_type == PALETTE:
            parts += _chunk(b"PLTE", [self.palette])
        for body in _stored(raw, checksum):
            parts += _chunk(b"IDAT", body)
        parts += _chunk(b"IEND", [])
        return b"".join(parts)

    def _inflated(self) -> tuple[bytes, bytes]:
        """The filtered rows, and their Adler-32 from the stream, checked."""
        size = sum(rows * (row + 1) for rows, row in self.passes)
        compressed = b"".join(self.pixels)
        if len(compressed) > 2 * size + (1 << 16):
            raise MalformedImageError(
                "corrupt data", f"the PNG has {len(compressed)} bytes of pixels for an image of {size} bytes"
            )
        inflater = zlib.decompressobj()
        try:
            raw = inflater.decompress(compressed, size + 1)
        except zlib.error as error:
            raise MalformedImageError("corrupt data", f"the pixels of the PNG cannot be inflated ({error})") from error
        if len(raw) > size:
            raise MalformedImageError(
                "corrupt data",
                f"the PNG says that it is {self.width}x{self.height}, {size} bytes inflated, and has more",
            )
        if len(raw) < size or not inflater.eof:
            raise MalformedImageError("data too short", f"the PNG has {len(raw)} bytes of pixels instead of {size}")
        self._check_filters(raw)
        end = len(compressed) - len(inflater.unused_data)
        return raw, compressed[end - 4 : end]

    def _check_filters(self, raw: bytes) -> None:
        everything, begin = np.frombuffer(raw, np.uint8), 0
        for rows, row in self.passes:
            end = begin + rows * (row + 1)
            highest = int(everything[begin : end : row + 1].max())
            if highest > 4:
                raise MalformedImageError(
                    "corrupt data", f"a row of the PNG has the filter {highest}; there are 0 to 4"
                )
            begin = end


def parse_png(data: bytes, check_pixels: bool = True) -> Png:
    """Check that every chunk is whole and in order, that each critical one has the right CRC, and that IEND is there.

    Args:
        check_pixels: False skips the CRCs of the IDAT chunks, where they were checked before.

    Raises:
        MalformedImageError: it is not a valid PNG; the message says why.
    """
    view = memoryview(data)
    position, header = len(SIGNATURE), b""
    palette: bytes | None = None
    pixels: list[memoryview] = []
    pixels_end = 0
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            raise _cut("its chunks: there is no IEND")
        length, name = struct.unpack_from(">I4s", data, position)
        begin, end = position + 8, position + 12 + length
        if end > len(data):
            raise _cut(f"the chunk {name!r}")
        # A wrong CRC of a chunk that is dropped changes no pixel. Decoders read such a file too.
        if not name[0] & 0x20 and (check_pixels or name != b"IDAT"):
            (crc,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(view[position + 4 : end - 4]) != crc:
                raise _corrupt(f"the CRC of the PNG's chunk {name!r} is wrong")
        if not header:
            if name != b"IHDR" or length != 13:
                raise _corrupt(f"the PNG begins with the chunk {name!r} instead of IHDR")
            header = data[begin : begin + 13]
        elif name == b"IDAT":
            if pixels and pixels_end != position:
                raise _corrupt("other chunks stand between the PNG's pixels")
            pixels.append(view[begin : begin + length])
            pixels_end = end
        elif name == b"IEND":
            return _checked(header, palette, pixels)
        elif name == b"PLTE":
            if palette is not None or pixels:
                raise _corrupt("the PNG has a second palette, or one after its pixels")
            if length % 3 or not 3 <= length <= 768:
                raise _corrupt(f"the palette of the PNG has {length} bytes")
            palette = data[begin : begin + length]
        elif not name.isalpha() or not name[0] & 0x20:
            # A decoder may ignore chunks whose name begins in lower case.
            raise _corrupt(f"the PNG has the chunk {name!r}, which no decoder may ignore")
        position = end
    raise _corrupt(f"the PNG has more than {MAX_CHUNKS} chunks")


def _checked(header: bytes, palette: bytes | None, pixels: list[memoryview]) -> Png:
    width, height, depth, colour_type, compression, filtering, interlacing = struct.unpack(">IIBBBBB", header)
    if max(width, height) >= 1 << 31:
        raise _corrupt(f"the PNG says that it is {width}x{height}")
    if depth not in DEPTHS.get(colour_type, ()):
        raise _corrupt(f"the PNG has the colour type {colour_type} with {depth} bits; there is no such PNG")
    if compression or filtering or interlacing > 1:
        raise _corrupt("the PNG has a compression, a filter method or an interlacing that no PNG has")
    if colour_type == PALETTE and palette is None:
        raise _corrupt("the PNG has no palette")
    if not pixels:
        raise _cut("its chunks: there are no pixels")
    kept = palette if colour_type == PALETTE and palette is not None else b""
    return Png(height, width, depth, colour_type, interlacing == 1, kept, tuple(pixels))


def _stored(raw: bytes, checksum: bytes) -> Iterator[list[bytes | memoryview]]:
    """A zlib stream of stored blocks, in the bodies of one chunk each."""
    view = memoryview(raw)
    starts = range(0, len(raw), STORED_BLOCK)
    for first in range(0, len(starts), BLOCKS_A_CHUNK):
        pieces: list[bytes | memoryview] = [b"\x78\x01"] if first == 0 else []
        for start in starts[first : first + BLOCKS_A_CHUNK]:
            block = view[start : start + STORED_BLOCK]
            last = start + STORED_BLOCK >= len(raw)
            pieces += (struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block)
        if first + BLOCKS_A_CHUNK >= len(starts):
            pieces.append(checksum)
        yield pieces


def _chunk(name: bytes, body: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The pieces of a chunk, without a copy."""
    crc = zlib.crc32(name)
    for piece in body:
        crc = zlib.crc32(piece, crc)
    return [struct.pack(">I4s", sum(map(len, body)), name), *body, struct.pack(">I", crc)]


def _corrupt(explanation: str) -> MalformedImageError:
    return MalformedImageError("corrupt data", explanation)


def _cut(where: str) -> MalformedImageError:
    return MalformedImageError("data too short", f"the PNG ends in {where}; what wrote or sent it cut it short")
