"""Untrusted image bytes: checked and reduced to a minimal image before any decoder reads them.

Decoders have faults, mostly in what decides no pixel: metadata, animation, alpha, profiles. So a decoder gets an image
that is rebuilt from what decides pixels, and that is not larger than its header says. The header is checked against a
limit before memory is allocated.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from ros_ood_perception.camera.image_formats import bmp as bmp_bytes
from ros_ood_perception.camera.image_formats import jpeg as jpeg_bytes
from ros_ood_perception.camera.image_formats import png as png_bytes
from ros_ood_perception.camera.image_formats import tiff as tiff_bytes
from ros_ood_perception.camera.image_formats import webp as webp_bytes
from ros_ood_perception.camera.raw_image import MalformedImageError, check_not_empty, check_not_too_large

JPEG, PNG, WEBP, BMP, TIFF = "JPEG", "PNG", "WebP", "BMP", "TIFF"
CAMERA_KINDS = (JPEG, PNG)
"""Formats of `sensor_msgs/CompressedImage`."""
REBUILT_KINDS = (JPEG, PNG, WEBP, BMP)
"""Formats that are rebuilt from their parts."""
FILE_KINDS = (*REBUILT_KINDS, TIFF)
"""Formats of files. TIFF is only for a decoder in a process of its own."""
MAX_BYTES_A_PIXEL = 8
"""The uncompressed size (16 bits, 4 channels): no camera compresses an image to more."""
MAX_METADATA_BYTES = 1 << 20
SIGNATURE_BYTES = 12


class _Parts(Protocol):
    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def rebuilt(self) -> bytes: ...


@dataclass(frozen=True)
class CheckedImage:
    """Image bytes whose structure was checked.

    Attributes:
        kind: one of `FILE_KINDS`.
        height, width: as declared. The decoded image is not larger.
        parts: from the module of the format.
    """

    kind: str
    height: int
    width: int
    parts: _Parts = field(repr=False)

    def rebuilt(self) -> bytes:
        """The minimal image: the same pixels without anything else that a decoder could read.

        Raises:
            MalformedImageError: the pixels of a PNG are not those that its header declares.
        """
        return self.parts.rebuilt()


def kind_of(data: bytes) -> str | None:
    """The format that the first `SIGNATURE_BYTES` bytes give, one of `FILE_KINDS`; None: none of them."""
    if data.startswith(png_bytes.SIGNATURE):
        return PNG
    if data.startswith(jpeg_bytes.START):
        return JPEG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith(b"BM"):
        return BMP
    return TIFF if data.startswith((b"II*\x00", b"MM\x00*")) else None


def max_bytes(max_pixels: int) -> int:
    """The largest size of an image of `max_pixels` pixels, bytes."""
    return max_pixels * MAX_BYTES_A_PIXEL + MAX_METADATA_BYTES


def check_image_bytes(
    data: bytes, max_pixels: int, kinds: Collection[str] = CAMERA_KINDS, check_pixels: bool = True
) -> CheckedImage:
    """Check format, size and completeness without decoding. Takes microseconds, and the time for a PNG's CRCs.

    Args:
        max_pixels: height times width of the largest image that is accepted.
        kinds: formats that are accepted.
        check_pixels: False skips the CRCs of a PNG's pixels, where they were checked before.

    Raises:
        MalformedImageError: with what was found and the remedy.
    """
    if len(data) > max_bytes(max_pixels):
        raise MalformedImageError(
            "image too large",
            f"data has {len(data)} bytes, more than {max_pixels} pixels (parameter max_image_pixels) can need",
        )
    kind = kind_of(data)
    if kind is None or kind not in kinds:
        *others, last = kinds
        wanted = f"{', '.join(others)} or {last}" if others else last
        raise MalformedImageError(
            f"not a {wanted}",
            f"data has {len(data)} bytes and begins with {data[:8].hex(' ') or 'nothing'}; it must be {wanted} "
            "(image_transport's compressed plug-in sends JPEG or PNG)",
        )
    parts: _Parts
    if kind == PNG:
        parts = png_bytes.parse_png(data, check_pixels)
    elif kind == JPEG:
        parts = jpeg_bytes.parse_jpeg(data)
    elif kind == WEBP:
        parts = webp_bytes.parse_webp(data)
    elif kind == BMP:
        parts = bmp_bytes.parse_bmp(data)
    else:
        parts = tiff_bytes.parse_tiff(data)
    check_not_empty(parts.height, parts.width)
    check_not_too_large(parts.height, parts.width, max_pixels)
    return CheckedImage(kind, parts.height, parts.width, parts)
