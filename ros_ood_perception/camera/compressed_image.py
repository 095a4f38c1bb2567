"""`sensor_msgs/CompressedImage` (JPEG, PNG) to arrays. The bytes are untrusted: see `camera.image_bytes`."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_bytes import check_image_bytes
from ros_ood_perception.camera.image_decoder import colour_of
from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.camera.raw_image import (
    NOT_CAMERA_COLOURS,
    MalformedImageError,
    check_stamp,
)


class CompressedImageMessage(Protocol):
    """`sensor_msgs/CompressedImage`: the class of rclpy or that of `rosbags`. `data` is any buffer of bytes."""

    header: Any
    format: str
    data: Any


def check_compressed(message: CompressedImageMessage, max_pixels: int) -> None:
    """Check format, size and completeness without decoding. Takes microseconds, and the time for a PNG's CRCs.

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
        # image_transport compresses the mosaic as it is, or as grey. It can be decoded, but its colours are lost.
        raise MalformedImageError(
            "compressed Bayer mosaic",
            f"format is {message.format[:40]!r}: a Bayer mosaic that is compressed before it is debayered has lost its "
            "colours; remap the compressed input to a debayered topic (image_proc's image_color/compressed), or set "
            "image_transport to raw and take the raw topic",
        )
    check_image_bytes(bytes(message.data), max_pixels)


def decode(
    message: CompressedImageMessage,
    order: str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    decoder: DecoderProcess | None = None,
) -> NDArray[np.uint8]:
    """Decode the image in the colour order of the graph's input.

    Args:
        message: checked.
        order: `rgb` or `bgr`.
        max_pixels: as for the check.
        decoder: decodes in another process; None: in this one.

    Returns:
        (H, W, 3) uint8; see `image_decoder.decode_colour`.

    Raises:
        MalformedImageError: the bytes are not an image of the format that they begin with.
    """
    data = bytes(message.data)
    if decoder is None:
        image = colour_of(check_image_bytes(data, max_pixels, check_pixels=False))
    else:
        image = decoder.colour(data, max_pixels)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if order == "rgb" else image
