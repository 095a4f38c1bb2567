"""Untrusted BMP: uncompressed ones, rebuilt with a minimal header.

Source: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ros_ood_perception.camera.raw_image import MalformedImageError

HEADER_SIZES = frozenset({40, 52, 56, 108, 124})
"""BITMAPINFOHEADER and its successors; all begin with the same 40 bytes."""


@dataclass(frozen=True)
class Bmp:
    """The checked parts of one BMP.

    Attributes:
        bits: bits a pixel: 8 (a palette), 24 or 32.
        top_down: the first row of the file is the top one.
        palette: 4 bytes a colour; empty where there is none.
        rows: bytes of the pixels.
    """

    height: int
    width: int
    bits: int
    top_down: bool
    palette: bytes = field(repr=False)
    rows: memoryview = field(repr=False)

    def rebuilt(self) -> bytes:
        """A BMP of the same pixels with the smallest header."""
        begin = 14 + 40 + len(self.palette)
        head = struct.pack("<2sIHHI", b"BM", begin + len(self.rows), 0, 0, begin)
        height = -self.height if self.top_down else self.height
        colours = len(self.palette) // 4
        info = struct.pack("<IiiHHIIiiII", 40, self.width, height, 1, self.bits, 0, len(self.rows), 0, 0, colours, 0)
        return b"".join((head, info, self.palette, self.rows))


def parse_bmp(data: bytes) -> Bmp:
    """Check the headers against the file.

    Raises:
        MalformedImageError: cut, or of a kind that is not supported; the message says which.
    """
    if len(data) < 54:
        raise MalformedImageError("data too short", f"the BMP has {len(data)} bytes; fetch it again")
    begin, header_size, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    (colours,) = struct.unpack_from("<I", data, 46)
    if header_size not in HEADER_SIZES or compression != 0 or bits not in (8, 24, 32) or planes != 1:
        raise MalformedImageError(
            "unusual BMP",
            f"the BMP has a header of {header_size} bytes, {bits} bits a pixel and compression {compression}; "
            "uncompressed ones of 8, 24 and 32 bits are read: convert it to PNG",
        )
    rows = abs(height)
    if width < 0:
        raise MalformedImageError("corrupt data", f"the width of the BMP is {width}; fetch it again")
    palette = b""
    if bits == 8:
        count = colours or 256
        if count > 256:
            raise MalformedImageError("corrupt data", f"the BMP has {count} colours in its palette; fetch it again")
        palette = data[14 + header_size : 14 + header_size + 4 * count]
        # A pixel may have any of 256 indices; colours that are not in the file are black.
        palette = palette[: 4 * count].ljust(1024, b"\x00")
    size = (width * bits // 8 + 3) // 4 * 4 * rows
    if begin < 14 + header_size or begin + size > len(data):
        raise MalformedImageError(
            "data too short", f"the BMP has {len(data)} bytes, and its {rows} rows need {begin + size}; fetch it again"
        )
    return Bmp(rows, width, bits, height < 0, palette, memoryview(data)[begin : begin + size])
