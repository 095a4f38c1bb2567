"""The encodings of `sensor_msgs/Image` that carry colour or grey light: their bytes, and their conversion by OpenCV.

The names are those of `sensor_msgs/image_encodings.hpp`, and `nv12`, which drivers use beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_TO_8_BITS = 255 / 65535


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of an image lie, and how they become colours.

    Attributes:
        pixel_bytes: of a pixel in a row; in planes, of a pixel in the rows of the first plane.
        codes: OpenCV's conversion to RGB and to BGR; None: the pixels are in that order.
        channels: of a pixel before the conversion.
        depth_bytes: of a channel: 1, or 2 of either byte order.
        rows_halves: rows of `step` bytes in the data, in halves of the image's height: 2, or more for planes.
        even_width, even_height: neighbouring pixels share their colour.
        least_side: pixels of the smallest image that OpenCV converts; of a smaller mosaic it makes black.
    """

    pixel_bytes: int
    codes: tuple[int | None, int | None]
    channels: int
    depth_bytes: int = 1
    rows_halves: int = 2
    even_width: bool = False
    even_height: bool = False
    least_side: int = 1

    def rows(self, height: int) -> int:
        """Rows of `step` bytes in the data of an image."""
        return height * self.rows_halves // 2

    def code(self, order: str) -> int | None:
        """OpenCV's conversion to an order, `rgb` or `bgr`."""
        return self.codes[order == "bgr"]


_GREY = (cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2BGR)
_BGR, _RGB = (cv2.COLOR_BGR2RGB, None), (None, cv2.COLOR_RGB2BGR)
_BGRA, _RGBA = (cv2.COLOR_BGRA2RGB, cv2.COLOR_BGRA2BGR), (cv2.COLOR_RGBA2RGB, cv2.COLOR_RGBA2BGR)
_UYVY, _YUYV = (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2BGR_UYVY), (cv2.COLOR_YUV2RGB_YUYV, cv2.COLOR_YUV2BGR_YUYV)
_NV12, _NV21 = (cv2.COLOR_YUV2RGB_NV12, cv2.COLOR_YUV2BGR_NV12), (cv2.COLOR_YUV2RGB_NV21, cv2.COLOR_YUV2BGR_NV21)
# ROS names the mosaic by its first two rows from the first column, OpenCV by the second row from the second column.
_BAYER = {
    "rggb": (cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2BGR),
    "bggr": (cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerRG2BGR),
    "gbrg": (cv2.COLOR_BayerGR2RGB, cv2.COLOR_BayerGR2BGR),
    "grbg": (cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerGB2BGR),
}

VIEWED = {
    "mono8": Encoding(1, _GREY, 1),
    "bgr8": Encoding(3, _BGR, 3),
    "rgb8": Encoding(3, _RGB, 3),
    "bgra8": Encoding(4, _BGRA, 4),
    "rgba8": Encoding(4, _RGBA, 4),
    # OpenCV's names of types do not say the order. cv_bridge, RViz and Foxglove read them in OpenCV's own order, BGR.
    "8UC1": Encoding(1, _GREY, 1),
    "8UC3": Encoding(3, _BGR, 3),
    "8UC4": Encoding(4, _BGRA, 4),
}
"""Encodings of one byte a channel. Their pixels are a view of the message's bytes."""

_DEEP = {
    "mono16": Encoding(2, _GREY, 1, 2),
    "bgr16": Encoding(6, _BGR, 3, 2),
    "rgb16": Encoding(6, _RGB, 3, 2),
    "bgra16": Encoding(8, _BGRA, 4, 2),
    "rgba16": Encoding(8, _RGBA, 4, 2),
    "16UC3": Encoding(6, _BGR, 3, 2),
    "16UC4": Encoding(8, _BGRA, 4, 2),
}
_MOSAICS = {
    f"bayer_{name}{8 * depth}": Encoding(depth, codes, 1, depth, least_side=3)
    for depth in (1, 2)
    for name, codes in _BAYER.items()
}
_SHARED_COLOUR = {
    **{name: Encoding(2, _UYVY, 2, even_width=True) for name in ("uyvy", "yuv422")},
    **{name: Encoding(2, _YUYV, 2, even_width=True) for name in ("yuyv", "yuv422_yuy2")},
    "nv12": Encoding(1, _NV12, 1, rows_halves=3, even_width=True, even_height=True),
    "nv21": Encoding(1, _NV21, 1, rows_halves=3, even_width=True, even_height=True),
    "nv24": Encoding(1, _UYVY, 1, rows_halves=6),
}
ENCODINGS = {**VIEWED, **_DEEP, **_MOSAICS, **_SHARED_COLOUR}
"""By their name in a message."""


def convert(name: str, data: object, size: tuple[int, int], step: int, big_endian: bool, order: str) -> Pixels:
    """An image that is not in `VIEWED`, converted.

    Sixteen bits are read as brightness from 0 to 65535 and rounded to eight. YUV is that of BT.601 with a brightness of
    16 to 235, as cameras give it.

    Args:
        name: a key of `ENCODINGS`.
        data: a buffer of bytes, at least `rows(height) * step`.
        size: height and width, pixels.
        step: bytes from row to row.
        big_endian: the byte order of two-byte channels.
        order: `rgb` or `bgr`.

    Returns:
        (H, W, 3) uint8.
    """
    encoding = ENCODINGS[name]
    if name == "nv24":
        return _from_full_colour_planes(data, size, step, _UYVY[order == "bgr"])
    pixels = _packed(encoding, data, size, step, big_endian)
    code = encoding.code(order)
    image = pixels if code is None else cv2.cvtColor(pixels, code)
    return image if encoding.depth_bytes == 1 else cv2.convertScaleAbs(image, alpha=_TO_8_BITS)


def _packed(encoding: Encoding, data: object, size: tuple[int, int], step: int, big_endian: bool) -> NDArray[np.uint8]:
    """Rows of pixels, without padding and in this machine's byte order where OpenCV needs that."""
    height, width = encoding.rows(size[0]), size[1]
    channels, depth = encoding.channels, encoding.depth_bytes
    shape = (height, width) if channels == 1 else (height, width, channels)
    strides = (step, channels * depth) if channels == 1 else (step, channels * depth, depth)
    dtype = np.dtype(np.uint8 if depth == 1 else ">u2" if big_endian else "<u2")
    pixels: NDArray[np.uint8] = np.ndarray(shape, dtype, np.frombuffer(data, np.uint8), strides=strides)  # type: ignore[call-overload]
    # Rows may begin at an odd byte.
    return pixels if depth == 1 else np.require(pixels, dtype.newbyteorder("="), ["C", "ALIGNED"])


def _from_full_colour_planes(data: object, size: tuple[int, int], step: int, code: int) -> Pixels:
    """NV24: a plane of Y, then one of U and V in turn, both for every pixel."""
    height, width = size
    planes = np.frombuffer(data, np.uint8, 3 * height * step)  # type: ignore[call-overload]
    luma = planes[: height * step].reshape(height, step)[:, :width]
    colour = planes[height * step :].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    # OpenCV has no conversion of it. Each pixel becomes the two of a UYVY pair, and one of them is kept.
    pairs = np.stack([colour[..., 0], luma, colour[..., 1], luma], axis=-1).reshape(height, 2 * width, 2)
    return np.ascontiguousarray(cv2.cvtColor(pairs, code)[:, ::2])
