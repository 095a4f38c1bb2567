"""Untrusted WebP: one still picture, without alpha, metadata and animation.

Source: RFC 9649.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_CHUNKS = 256
LOSSY, LOSSLESS = b"VP8 ", b"VP8L"


@dataclass(frozen=True)
class WebP:
    """The checked picture of one WebP file.

    Attributes:
        name: `VP8 ` (lossy) or `VP8L` (lossless).
        body: contents of that chunk.
    """

    height: int
    width: int
    name: bytes
    body: bytes = field(repr=False)

    def rebuilt(self) -> bytes:
        """A WebP file with only that picture."""
        padded = self.body + bytes(len(self.body) % 2)
        head = struct.pack("<4sI4s4sI", b"RIFF", 12 + len(padded), b"WEBP", self.name, len(self.body))
        return head + padded


def parse_webp(data: bytes) -> WebP:
    """Check the chunks up to the picture.

    Raises:
        MalformedImageError: there is no still picture; the message says why.
    """
    position = 12
    canvas: tuple[int, int] | None = None
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            raise MalformedImageError("data too short", f"the WebP ends in the chunk {name!r}; fetch it again")
        if name in (b"ANIM", b"ANMF"):
            raise MalformedImageError(
                "several pictures", "the WebP is an animation; give its frames as images, or make a video of it"
            )
        if name == b"VP8X" and length >= 10:
            canvas = (1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little"))
        if name in (LOSSY, LOSSLESS):
            size = _lossy_size(body) if name == LOSSY else _lossless_size(body)
            if canvas not in (None, size):
                raise MalformedImageError(
                    "corrupt data", f"the WebP says that it is {canvas}, and its picture {size} (height, width)"
                )
            return WebP(*size, name, body)
        position += 8 + length + length % 2
    raise MalformedImageError("data too short", "the WebP has no picture; fetch it again")


def _lossy_size(body: bytes) -> tuple[int, int]:
    # A key frame has the lowest bit 0, and a start code after the frame tag.
    if len(body) < 10 or body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise MalformedImageError("corrupt data", "the picture of the WebP does not begin as one; fetch it again")
    width, height = struct.unpack_from("<HH", body, 6)
    return height & 0x3FFF, width & 0x3FFF


def _lossless_size(body: bytes) -> tuple[int, int]:
    bits = int.from_bytes(body[1:5], "little")
    if len(body) < 5 or body[0] != 0x2F or bits >> 29:
        raise MalformedImageError("corrupt data", "the picture of the WebP does not begin as one; fetch it again")
    return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
