"""Untrusted JPEG: checks its segments, and makes a minimal JPEG of the same pixels.

A decoder gets only what decides pixels: tables, the frame header, scans, and the colour fields of APP0 and APP14.
Comments, EXIF, thumbnails, profiles, fill bytes and what follows the end marker are left out.

Source: ITU-T T.81, T.871 (JFIF); libjpeg-turbo's jdmarker.c for what a decoder takes from a stream.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from ros_ood_perception.camera.raw_image import MalformedImageError

START, END = b"\xff\xd8", b"\xff\xd9"
SOF0, SOF1, SOF2, DHT, DAC, SOI, EOI, SOS, DQT, DNL, DRI = (
    *(0xC0, 0xC1, 0xC2, 0xC4, 0xCC, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD),
)
FRAMES = frozenset({SOF0, SOF1, SOF2})
"""Baseline, extended and progressive: what cameras send and OpenCV decodes."""
OTHER_FRAMES = frozenset({0xC3, *range(0xC5, 0xC8), *range(0xC8, 0xCC), DAC, *range(0xCD, 0xD0)})
LEFT_OUT = frozenset({*range(0xE0, 0xF0), 0xFE})
"""APP0 to APP15 and comments."""
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length; they mean nothing outside a scan."""
MAX_SCANS = 100
"""A progressive JPEG has about ten; thousands of empty ones would keep the decoder busy for minutes."""
MAX_TABLES = 256
"""Segments of quantisation or Huffman tables and restart intervals; an encoder writes at most a few for each scan."""
MAX_SEGMENTS = 2048
"""Segments of any kind. A profile of 16 MB in APP2 has 255."""
_START = re.compile(rb"\xff+\xd8")
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""In a scan, neither a stuffed byte nor a restart nor a fill byte."""


@dataclass(frozen=True)
class Jpeg:
    """The checked parts of one JPEG.

    Attributes:
        parts: of the minimal JPEG, in their order.
    """

    height: int
    width: int
    parts: tuple[bytes | memoryview, ...] = field(repr=False)

    def rebuilt(self) -> bytes:
        """A JPEG of the same pixels with nothing else in it."""
        return b"".join(self.parts)


def begins(data: bytes) -> int | None:
    """Where the start marker ends; None: the bytes do not begin as a JPEG. Fill bytes (FF) may stand before a marker.

    >>> begins(bytes.fromhex("ffffffd8ffe0"))
    4
    """
    found = _START.match(data)
    return None if found is None else found.end()


def parse_jpeg(data: bytes) -> Jpeg:
    """Check every segment up to the end marker. What follows the end marker is ignored.

    Raises:
        MalformedImageError: it is not a JPEG that is decoded; the message says why.
    """
    segments = _Segments(data)
    position = begins(data) or len(START)
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.match(data, position)
        if found is None:
            raise _cut("its segments") if position + 1 >= len(data) else _no_marker(position)
        marker, position = found[1][0], found.end()
        if marker in ALONE:
            continue
        if marker == EOI:
            return segments.jpeg()
        if marker == SOI:
            raise _corrupt("the JPEG begins a second time")
        if marker < SOF0:
            # A decoder skips what is no marker, byte by byte.
            raise _no_marker(position - 2)
        if position + 2 > len(data):
            raise _cut("a segment")
        (length,) = struct.unpack_from(">H", data, position)
        end = position + length
        if length < 2:
            raise _corrupt(f"a segment of the JPEG has the length {length}")
        if end > len(data):
            raise _cut("a segment")
        position = segments.add(marker, position, end)
    raise _corrupt(f"the JPEG has more than {MAX_SEGMENTS} segments")


class _Segments:
    """The segments of one JPEG as they are found, and what is kept of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._frame: _Frame | None = None
        self._scanned: set[int] = set()
        self._colours: dict[bytes, bytes] = {}
        self._parts: list[bytes | memoryview] = []
        self._scans = self._tables = 0

    def jpeg(self) -> Jpeg:
        """All that was found, at the end marker."""
        if self._frame is None:
            raise _no_frame()
        missing = [number for number in self._frame.components if number not in self._scanned]
        if missing:
            raise _cut(f"its scans: there is none of the component {missing[0]}")
        head = [b"\xff" + bytes([name[0]]) + body for name, body in sorted(self._colours.items())]
        return Jpeg(self._frame.height, self._frame.width, (START, *head, *self._parts, END))

    def add(self, marker: int, begin: int, end: int) -> int:
        """Check a segment whose length stands at `begin`; returns where the next marker is."""
        if marker in LEFT_OUT:
            if not self._scans:
                _keep_colours(marker, self._data[begin + 2 : end], self._colours)
            return end
        body = self._data[begin + 2 : end]
        if marker == SOS:
            return self._add_scan(body, begin, end)
        if marker in FRAMES:
            if self._frame is not None:
                raise _corrupt("the JPEG has a second frame header")
            self._frame = _Frame.of(body)
        elif marker in (DQT, DHT, DRI):
            self._tables += 1
            if self._tables > MAX_TABLES:
                raise _corrupt(f"the JPEG has more than {MAX_TABLES} segments of tables")
            _check_table(marker, body)
        elif marker == DNL:
            if self._frame is None or body != struct.pack(">H", self._frame.height):
                raise _corrupt("the JPEG changes its height after its frame header")
            return end
        elif marker in OTHER_FRAMES:
            raise _no_frame()
        else:
            raise _corrupt(f"the JPEG has the marker {marker:02X}, which no decoder knows")
        self._parts.append(self._view[begin - 2 : end])
        return end

    def _add_scan(self, header: bytes, begin: int, end: int) -> int:
        if self._frame is None:
            raise _no_frame()
        self._scans += 1
        if self._scans > MAX_SCANS:
            raise MalformedImageError("image too large", f"the JPEG has more than {MAX_SCANS} scans")
        self._scanned.update(_scan_components(header, self._frame))
        stop = _SCAN_END.search(self._data, end)
        if stop is None:
            raise _cut("its scans: there is no end-of-image marker")
        self._parts.append(self._view[begin - 2 : stop.start()])
        return stop.start()


@dataclass(frozen=True)
class _Frame:
    height: int
    width: int
    components: tuple[int, ...]

    @classmethod
    def of(cls, body: bytes) -> _Frame:
        if len(body) < 6:
            raise _cut("its frame header")
        precision, height, width, count = struct.unpack_from(">BHHB", body)
        if precision != 8:
            raise _corrupt(f"the JPEG has {precision} bits a sample; the publisher must send 8")
        if count not in (1, 3, 4) or len(body) != 6 + 3 * count:
            raise _corrupt(f"the frame header of the JPEG has {count} components and {len(body)} bytes")
        components = body[6::3]
        for sampling in body[7::3]:
            if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
                raise _corrupt("a component of the JPEG is sampled in a way that no JPEG has")
        if len(set(components)) != count or max(body[8::3]) > 3:
            raise _corrupt("two components of the JPEG have the same number, or one has no quantisation table")
        return cls(height, width, tuple(components))


def _scan_components(body: bytes, frame: _Frame) -> bytes:
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) != 4 + 2 * count:
        raise _corrupt(f"the header of a scan of the JPEG has {count} components and {len(body)} bytes")
    components = body[1 : 1 + 2 * count : 2]
    if not set(components) <= set(frame.components) or len(set(components)) != count:
        raise _corrupt("a scan of the JPEG has components that its frame header does not have")
    first, last, approximation = body[-3:]
    if any(tables >> 4 > 3 or tables & 15 > 3 for tables in body[2 : 2 + 2 * count : 2]):
        raise _corrupt("a scan of the JPEG has Huffman tables that no JPEG has")
    if first > 63 or last > 63 or approximation >> 4 > 13 or approximation & 15 > 13:
        raise _corrupt("a scan of the JPEG has coefficients that no JPEG has")
    return components


def _check_table(marker: int, body: bytes) -> None:
    position = 0
    if marker == DRI:
        if len(body) != 2:
            raise _corrupt(f"the restart interval of the JPEG has {len(body)} bytes")
        return
    while position < len(body):
        which = body[position]
        if which >> 4 > 1 or which & 15 > 3:
            raise _corrupt("a table of the JPEG has a number that no JPEG has")
        if marker == DQT:
            position += 1 + (128 if which >> 4 else 64)
        else:
            counts = body[position + 1 : position + 17]
            if sum(counts) > 256:
                raise _corrupt(f"a Huffman table of the JPEG has {sum(counts)} codes")
            position += 17 + sum(counts)
    if position != len(body) or not body:
        raise _corrupt("a table of the JPEG does not end where its segment does")


def _keep_colours(marker: int, body: bytes, colours: dict[bytes, bytes]) -> None:
    """Keep of APP0 and APP14 what tells a decoder the components' colours."""
    if marker == 0xE0 and body[:5] == b"JFIF\x00" and len(body) >= 14:
        colours[b"\xe0"] = struct.pack(">H", 16) + body[:12] + b"\x00\x00"  # without the thumbnail
    elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
        colours[b"\xee"] = struct.pack(">H", 14) + body[:12]


def _no_marker(position: int) -> MalformedImageError:
    return _corrupt(f"the JPEG has no marker at byte {position}")


def _no_frame() -> MalformedImageError:
    return _corrupt(
        "the JPEG has no baseline or progressive frame header; the publisher must send such a JPEG",
    )


def _corrupt(explanation: str) -> MalformedImageError:
    return MalformedImageError("corrupt data", explanation)


def _cut(where: str) -> MalformedImageError:
    return MalformedImageError("data too short", f"the JPEG ends in {where}; what wrote or sent it cut it short")
