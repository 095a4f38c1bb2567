"""`sensor_msgs/Image` to arrays, without a copy where the encoding allows. Every field is checked.

Knows no ROS but `cv_bridge`, which is imported only for encodings outside of `CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.errors import PerceptionError

CHANNELS = {"mono8": 1, "bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4}
"""Encodings that are read as a view of the message's bytes, and their bytes a pixel."""

DEEP_CHANNELS = {"bgr16": 3, "rgb16": 3, "bgra16": 4, "rgba16": 4}
"""Encodings of two bytes a channel, which cv_bridge converts, and their channels."""

NOT_CAMERA_COLOURS = ("mono16", "16U", "16S", "32F", "32S", "64F", "8S")
"""Prefixes of encodings of measurements (depth, thermal), which no colour camera has."""

_TO_COLOUR = {
    ("bgr8", "rgb"): cv2.COLOR_BGR2RGB,
    ("rgb8", "bgr"): cv2.COLOR_RGB2BGR,
    ("bgra8", "rgb"): cv2.COLOR_BGRA2RGB,
    ("bgra8", "bgr"): cv2.COLOR_BGRA2BGR,
    ("rgba8", "rgb"): cv2.COLOR_RGBA2RGB,
    ("rgba8", "bgr"): cv2.COLOR_RGBA2BGR,
    ("mono8", "rgb"): cv2.COLOR_GRAY2RGB,
    ("mono8", "bgr"): cv2.COLOR_GRAY2BGR,
}


class ImageMessage(Protocol):
    """`sensor_msgs/Image`: the class of rclpy, that of `rosbags`, or `PlainImage`. `data` is any buffer of bytes."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


@dataclass
class PlainImage:
    """An `ImageMessage` without a message class. Its fields are not checked."""

    header: Any
    height: int
    width: int
    encoding: str
    step: int
    data: Sequence[int] | NDArray[np.uint8]
    is_bigendian: int = 0


class MalformedImageError(PerceptionError, ValueError):
    """A message that does not hold the image that it declares.

    Attributes:
        kind: short name of the fault, for counting. The message says what was found and the remedy.
    """

    def __init__(self, kind: str, explanation: str) -> None:
        super().__init__(explanation)
        self.kind = kind

    def __reduce__(self) -> tuple[type[MalformedImageError], tuple[str, str]]:
        """For pickle, which passes `args` to the constructor otherwise: the explanation alone."""
        return type(self), (self.kind, str(self))


def check_not_empty(height: int, width: int) -> None:
    """Check that an image has pixels.

    Raises:
        MalformedImageError: it has none.
    """
    if height == 0 or width == 0:
        raise MalformedImageError(
            "zero size", f"height is {height} and width is {width}; the camera driver publishes empty images"
        )


def check_not_too_large(height: int, width: int, max_pixels: int) -> None:
    """Check that an image has no more than `max_pixels`.

    Raises:
        MalformedImageError: it has more.
    """
    if height * width > max_pixels:
        raise MalformedImageError(
            "image too large",
            f"the image is {width}x{height}, more than {max_pixels} pixels; if that is right, raise the parameter "
            "max_image_pixels",
        )


def check_stamp(seconds: int) -> None:
    """Check the seconds of a header's stamp.

    Raises:
        MalformedImageError: before 1970.
    """
    if seconds < 0:
        raise MalformedImageError(
            "stamp before 1970", f"the header's stamp has {seconds} s; the camera driver must stamp its frames"
        )


def check_image(message: ImageMessage, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Check what the message declares against the bytes that it carries. Takes microseconds.

    Args:
        max_pixels: height times width of the largest image that is accepted.

    Raises:
        MalformedImageError: with the field, its value and the remedy.
    """
    height, width, step = message.height, message.width, message.step
    encoding = message.encoding
    check_stamp(message.header.stamp.sec)
    check_not_empty(height, width)
    if encoding.startswith(NOT_CAMERA_COLOURS):
        raise MalformedImageError(
            "encoding of no colour camera",
            f"encoding is {encoding[:20]!r}, which is not a colour camera's (depth, thermal or raw measurements); "
            "remap ~/input/image to a colour topic, or let the driver publish rgb8, bgr8 or mono8",
        )
    pixel_bytes = _least_pixel_bytes(encoding)
    if step < width * pixel_bytes:
        raise MalformedImageError(
            "step too small",
            f"step is {step}, but a row of {width} pixels {encoding[:20]} has {width * pixel_bytes} bytes; "
            "the publisher must set step to at least width * bytes per pixel",
        )
    if len(message.data) < height * step:
        raise MalformedImageError(
            "data too short",
            f"data has {len(message.data)} bytes, height * step = {height} * {step} needs {height * step}; "
            "the publisher sends cut images",
        )
    # Last: where the data does not fit the height, the image is cut and not large.
    check_not_too_large(height, width, max_pixels)


def _least_pixel_bytes(encoding: str) -> int:
    """The least number of bytes a pixel of this encoding has in a row."""
    if encoding in CHANNELS:
        return CHANNELS[encoding]
    if encoding in DEEP_CHANNELS:
        return 2 * DEEP_CHANNELS[encoding]
    return 2 if encoding.endswith("16") or encoding.startswith(("yuv422", "uyvy", "yuyv")) else 1


def to_array(message: ImageMessage) -> NDArray[np.uint8]:
    """The image as a view of the message's own bytes: no copy.

    Args:
        message: checked, with an encoding of `CHANNELS`.

    Returns:
        (H, W) or (H, W, C) uint8, rows `step` bytes apart. Valid as long as the message is.
    """
    channels = CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8, message.height * message.step).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels]
    return pixels if channels == 1 else pixels.reshape(message.height, message.width, channels)


def to_colour(message: ImageMessage, order: str) -> NDArray[np.uint8]:
    """The image in the colour order of the graph's input.

    Args:
        message: checked.
        order: `rgb` or `bgr`.

    Returns:
        (H, W, 3) uint8: a view where the message has that order, else converted.

    Raises:
        MalformedImageError: the encoding cannot be converted.
    """
    encoding = message.encoding
    if encoding not in CHANNELS:
        return _through_cv_bridge(message, order)
    image = to_array(message)
    code = _TO_COLOUR.get((encoding, order))
    return image if code is None else cv2.cvtColor(image, code)


def _through_cv_bridge(message: ImageMessage, order: str) -> NDArray[np.uint8]:
    kind = "unknown encoding"
    remedy = f"let the driver publish one of {', '.join(CHANNELS)}"
    try:
        # Imported here: few cameras need it, and it is not installed everywhere.
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError as error:
        raise MalformedImageError(
            kind, f"encoding is {message.encoding[:20]!r}, and cv_bridge, which converts it, is not installed; {remedy}"
        ) from error
    try:
        image = CvBridge().imgmsg_to_cv2(_without_padding(message), desired_encoding=f"{order}8")
    except (CvBridgeError, cv2.error, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise MalformedImageError(
            kind, f"encoding is {message.encoding[:20]!r}, which cv_bridge cannot convert ({error}); {remedy}"
        ) from error
    if image.dtype != np.uint8 or image.shape != (message.height, message.width, 3):
        raise MalformedImageError(
            kind, f"encoding is {message.encoding[:20]!r}; cv_bridge made {image.shape} {image.dtype} of it; {remedy}"
        )
    return image


def _without_padding(message: ImageMessage) -> ImageMessage:
    """The same image without padding between rows: some versions of cv_bridge ignore `step`."""
    row = message.width * _least_pixel_bytes(message.encoding)
    if message.step == row or len(message.data) != message.height * message.step:
        return message
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row]
    packed = np.ascontiguousarray(rows).reshape(-1)
    endianness = message.is_bigendian
    return PlainImage(message.header, message.height, message.width, message.encoding, row, packed, endianness)
