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
MAX_BYTES_BEFORE = 4096
"""How far a JPEG is looked for behind other bytes, to name it in a message."""
OTHER_KINDS = {
    b"GIF8": "a GIF",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL",
    b"\xff\x0a": "a JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"\x00\x00\x00\x01": "an H.264 or H.265 stream, which a video decoder must turn into images first",
    b"\x00\x00\x01": "an H.264 or H.265 stream, which a video decoder must turn into images first",
    b"v/1\x01": "an OpenEXR",
    **{b"P%d" % number: "a PNM (PBM, PGM or PPM)" for number in range(1, 8)},
    b"II+\x00": "a BigTIFF",
    b"MM\x00+": "a BigTIFF",
    **dict.fromkeys((b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "a web page: fetch the image again"),
    b"version http": "a pointer of Git LFS, for which git lfs pull fetches the file",
    b"\x00\x05\x16\x07": "what macOS puts beside a file",
}
"""First bytes -> what begins so and is not read, for messages."""


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
    if jpeg_bytes.begins(data[:SIGNATURE_BYTES]) is not None:
        return JPEG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith(b"BM"):
        return BMP
    return TIFF if data.startswith((b"II*\x00", b"MM\x00*")) else None


def other_kind(data: bytes) -> str | None:
    """What bytes are that are none of `FILE_KINDS`, in words for a message; None: unknown."""
    for begin, name in OTHER_KINDS.items():
        if data.startswith(begin):
            return name
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "an AVIF"
        return "a HEIC" if brand in (b"heic", b"heix", b"mif1", b"msf1") else "an MP4 or MOV video"
    later = data.find(jpeg_bytes.START + b"\xff", 1, MAX_BYTES_BEFORE)
    if later < 0:
        return None
    return f"a JPEG begins only at byte {later}: what wrote or sent it must leave out the bytes before it"


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
        raise _not_of(kinds, data)
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


def _not_of(kinds: Collection[str], data: bytes) -> MalformedImageError:
    *others, last = kinds
    wanted = f"{', '.join(others)} or {last}" if others else last
    name = kind_of(data)
    found = other_kind(data) if name is None else f"a {name}"
    hint = (
        "image_transport's compressed plug-in sends JPEG or PNG"
        if tuple(kinds) == CAMERA_KINDS
        else "convert it to PNG"
    )
    return MalformedImageError(
        f"not a {wanted}",
        f"data has {len(data)} bytes and begins with {data[:8].hex(' ') or 'nothing'}"
        f"{f' ({found})' if found else ''}; it must be {wanted} ({hint})",
    )
