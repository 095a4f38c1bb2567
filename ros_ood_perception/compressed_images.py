"""`sensor_msgs/CompressedImage` (JPEG, PNG) to arrays. The bytes are untrusted: checked before they are decoded."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera_images import (
    NOT_CAMERA_COLOURS,
    MalformedImageError,
    check_not_empty,
    check_not_too_large,
    check_stamp,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive: what cameras send and OpenCV decodes."""
JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten; thousands of empty ones would keep the decoder busy for minutes."""
MAX_BYTES_A_PIXEL = 8
"""No camera compresses an image to more than it has uncompressed (16 bits, 4 channels)."""
MAX_METADATA_BYTES = 1 << 20


class CompressedImageMessage(Protocol):
    """`sensor_msgs/CompressedImage`, whosever class; `data` is any buffer of bytes."""

    header: Any
    format: str
    data: Any


def check_compressed(message: CompressedImageMessage, max_pixels: int) -> None:
    """Check what can be known without decoding: kind, size, completeness. Costs microseconds, a PNG's CRC aside.

    Args:
        max_pixels: height times width of the largest image that is decoded.

    Raises:
        MalformedImageError: with the field, its value and the remedy.
    """
    check_stamp(message.header.stamp.sec)
    declared = message.format.split(";")[0].strip()
    if declared.startswith(NOT_CAMERA_COLOURS) or "compressedDepth" in message.format:
        raise MalformedImageError(
            "encoding of no colour camera",
            f"format is {message.format[:40]!r}, which is not a colour camera's; remap the compressed input to a "
            "colour topic",
        )
    if declared.startswith("bayer"):
        # image_transport compresses the mosaic as it is, or as grey: it decodes well, and has lost its colours.
        raise MalformedImageError(
            "compressed Bayer mosaic",
            f"format is {message.format[:40]!r}: a Bayer mosaic that is compressed before it is debayered has lost its "
            "colours; remap the compressed input to a debayered topic (image_proc's image_color/compressed), or set "
            "image_transport to raw and take the raw topic",
        )
    height, width = _size(bytes(message.data), max_pixels)
    check_not_empty(height, width)
    check_not_too_large(height, width, max_pixels)


def _size(data: bytes, max_pixels: int) -> tuple[int, int]:
    if len(data) > max_pixels * MAX_BYTES_A_PIXEL + MAX_METADATA_BYTES:
        raise MalformedImageError(
            "image too large",
            f"data has {len(data)} bytes, more than {max_pixels} pixels (parameter max_image_pixels) can need",
        )
    if data.startswith(PNG_SIGNATURE):
        return _png_size(data)
    if data.startswith(JPEG_START):
        return _jpeg_size(data)
    raise MalformedImageError(
        "not a JPEG or PNG",
        f"data has {len(data)} bytes and begins with {data[:8].hex(' ') or 'nothing'}; the publisher must send JPEG or "
        "PNG (image_transport's compressed plug-in does)",
    )


def _cut(kind: str, where: str) -> MalformedImageError:
    return MalformedImageError(
        "data too short", f"the {kind} ends in {where}; the publisher sends cut images, or the transport cut them"
    )


def _png_size(data: bytes) -> tuple[int, int]:
    """From the header, after a walk over every chunk: each whole, its CRC right, IEND there."""
    position, size = len(PNG_SIGNATURE), None
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _cut("PNG", f"the chunk {name!r}")
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != crc:
            raise MalformedImageError("corrupt data", f"the CRC of the PNG's chunk {name!r} is wrong")
        if size is None:
            if name != b"IHDR" or length != 13:
                raise MalformedImageError("corrupt data", f"the PNG begins with the chunk {name!r} instead of IHDR")
            width, height = struct.unpack_from(">II", data, position + 8)
            size = (height, width)
        if name == b"IEND":
            return size
        position = end
    raise _cut("PNG", "its chunks: there is no IEND")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the frame header, if the end is there too: older OpenCVs fill up a cut JPEG with grey."""
    if not data.rstrip(b"\x00").endswith(JPEG_END):
        raise _cut("JPEG", "its scans: there is no end-of-image marker")
    scans = data.count(b"\xff\xda")
    if scans > MAX_JPEG_SCANS:
        raise MalformedImageError("image too large", f"the JPEG has {scans} scans; {MAX_JPEG_SCANS} are allowed")
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise MalformedImageError("corrupt data", f"the JPEG has no marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # fill bytes
            position += 1
            continue
        if marker in JPEG_WITHOUT_LENGTH:
            position += 2
            continue
        if marker < 0xC0:
            # A decoder skips what is no marker, byte by byte: what is read here must be what it reads.
            raise MalformedImageError("corrupt data", f"the JPEG has no marker at byte {position}")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in JPEG_FRAME_MARKERS:
            if length < 8 or position + 9 > len(data):
                raise _cut("JPEG", "its frame header")
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        if marker == 0xDA or length < 2:
            break
        position += 2 + length
    raise MalformedImageError(
        "corrupt data", "the JPEG has no baseline or progressive frame header; the publisher must send such a JPEG"
    )


def decode(message: CompressedImageMessage, order: str) -> NDArray[np.uint8]:
    """The image as the graph wants it.

    Args:
        message: checked.
        order: `rgb` or `bgr`.

    Returns:
        (H, W, 3) uint8, the pixels as the camera gave them (an orientation in the metadata turns nothing).

    Raises:
        MalformedImageError: the bytes are not the image that they begin as.
    """
    data = bytes(message.data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MalformedImageError("corrupt data", f"the compressed image cannot be decoded ({error.err})") from error
    if image is None:
        raise MalformedImageError("corrupt data", f"the compressed image ({len(data)} bytes) cannot be decoded")
    # The size that was checked before this memory was spent must be the one that it was spent on.
    height, width = struct.unpack(">II", data[16:24])[::-1] if data[1:4] == b"PNG" else _jpeg_size(data)
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise MalformedImageError("corrupt data", f"the image says that it is {width}x{height}, and is {found}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if order == "rgb" else image
