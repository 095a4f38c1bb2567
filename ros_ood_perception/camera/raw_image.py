"""`sensor_msgs/Image` to arrays, without a copy where the encoding allows. Every field is checked. Knows no ROS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.camera.raw_encodings import ENCODINGS, VIEWED, Encoding, convert
from ros_ood_perception.errors import PerceptionError

NOT_CAMERA_COLOURS = ("mono16", "16U", "16S", "32F", "32S", "64F", "8S")
"""Prefixes of the encodings that a compressed image of a colour camera does not declare."""

MOST_BYTES_BEHIND_PLANES = 4095
"""Buffers of a driver are rounded up to whole pages. More bytes mean that the planes are not where they should be."""


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
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise _refusal(encoding)
    if encoding not in VIEWED:
        _check_side(encoding, layout, height, width)
    if step < width * layout.pixel_bytes:
        raise MalformedImageError(
            "step too small",
            f"step is {step}, but a row of {width} pixels {encoding} has {width * layout.pixel_bytes} bytes; "
            "the publisher must set step to at least width * bytes per pixel",
        )
    rows, size = layout.rows(height), len(message.data)
    if size < rows * step:
        raise MalformedImageError(
            "data too short",
            f"data has {size} bytes, and {rows} rows of {step} (step) need {rows * step}; the publisher sends cut "
            "images",
        )
    if rows > height and size > rows * step + MOST_BYTES_BEHIND_PLANES:
        raise MalformedImageError(
            "data too long",
            f"data has {size} bytes, and the planes of {encoding} {rows * step} ({rows} rows of {step}); where the "
            "second plane begins is not known, so the driver must publish planes without rows between them",
        )
    # Last: where the data does not fit the height, the image is cut and not large.
    check_not_too_large(height, width, max_pixels)


def _check_side(encoding: str, layout: Encoding, height: int, width: int) -> None:
    if (layout.even_width and width % 2) or (layout.even_height and height % 2):
        sides = "width and height" if layout.even_height else "width"
        raise MalformedImageError(
            "odd size",
            f"the image is {width}x{height} pixels {encoding}, whose neighbours share their colour: {sides} must be "
            "even; set another size in the camera driver",
        )
    if min(height, width) < layout.least_side:
        raise MalformedImageError(
            "odd size",
            f"the image is {width}x{height} pixels {encoding}; width and height must be at least {layout.least_side}",
        )


def _refusal(encoding: str) -> MalformedImageError:
    """The error for an encoding that is not read."""
    remedy = "remap ~/input/image to a colour topic, or let the driver publish rgb8, bgr8 or mono8"
    if encoding in ("8UC2", "16UC2"):
        return MalformedImageError(
            "unknown encoding",
            f"encoding is '{encoding}', whose two channels have no agreed meaning; let the driver say which "
            "(yuv422_yuy2, uyvy), or publish rgb8, bgr8 or mono8",
        )
    if re.fullmatch("(8|16|32|64)[USF](C[0-9]{0,3})?", encoding):
        meaning = {"16UC1": "depth in millimetres", "32FC1": "depth in metres"}.get(encoding, "measurements")
        return MalformedImageError(
            "encoding of no colour camera",
            f"encoding is '{encoding}', which is not a colour camera's: it holds {meaning}; {remedy}",
        )
    return MalformedImageError(
        "unknown encoding",
        f"encoding is {encoding[:20]!r}, which is none of ROS's names of colour and grey; {remedy}",
    )


def to_array(message: ImageMessage) -> NDArray[np.uint8]:
    """The image as a view of the message's own bytes: no copy.

    Args:
        message: checked, with an encoding of `VIEWED`.

    Returns:
        (H, W) or (H, W, C) uint8, rows `step` bytes apart. Valid as long as the message is.
    """
    channels = VIEWED[message.encoding].channels
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
    """
    encoding = VIEWED.get(message.encoding)
    if encoding is None:
        size = (message.height, message.width)
        return convert(message.encoding, message.data, size, message.step, bool(message.is_bigendian), order)
    image = to_array(message)
    code = encoding.code(order)
    return image if code is None else cv2.cvtColor(image, code)
