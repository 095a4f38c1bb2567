"""Untrusted image bytes to pixels in this process: made minimal by `image_bytes`, then decoded by OpenCV."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.image_bytes import CAMERA_KINDS, PNG, TIFF, CheckedImage, check_image_bytes, kind_of
from ros_ood_perception.camera.image_formats.png import COLOUR_NAMES, GREY, PALETTE, Png
from ros_ood_perception.camera.raw_image import MalformedImageError

NOT_LABELS = "not labels"
"""Kind of a `MalformedImageError`: an image, but none whose values are labels of one meaning."""


def decode_colour(data: bytes, max_pixels: int, kinds: Collection[str] = CAMERA_KINDS) -> NDArray[np.uint8]:
    """Decode the pixels as a camera would have sent them.

    An orientation in the metadata is ignored. Of 16 bits the upper 8 are taken. A palette becomes its colours, grey
    becomes three equal channels, alpha is dropped.

    Args:
        max_pixels: height times width of the largest image that is decoded.
        kinds: formats that are decoded, of `FILE_KINDS`.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        MalformedImageError: the bytes are not an image of the format that they begin with.
    """
    return colour_of(check_image_bytes(data, max_pixels, kinds))


def colour_of(image: CheckedImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR of an image that was checked; see `decode_colour`."""
    # A TIFF of 16 bits is scaled here, because versions of OpenCV scale it differently.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if image.kind == TIFF else 0)
    pixels = _decoded(image, image.rebuilt(), flags)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise MalformedImageError("corrupt data", f"the {image.kind} decodes to {pixels.shape} {pixels.dtype}")
    return pixels


def decode_labels(data: bytes, max_pixels: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode the values of a label image as they are stored: indices of a palette, not its colours; 1 bit is 0 or 1.

    Returns:
        (H, W) uint8, or uint16 where the file has 16 bits.

    Raises:
        MalformedImageError: not a PNG, one with more than one value a pixel, or one whose palette contradicts its
            indices.
    """
    kind = kind_of(data)
    if kind not in (PNG, None):
        raise MalformedImageError(
            NOT_LABELS, f"this file is a {kind}; a label file must be PNG, which keeps every value: write it as one"
        )
    image = check_image_bytes(data, max_pixels, (PNG,))
    png = image.parts
    assert isinstance(png, Png)
    if png.colour_type not in (GREY, PALETTE):
        raise MalformedImageError(
            NOT_LABELS,
            f"a label file must hold one 8-bit value a pixel; this one is {COLOUR_NAMES[png.colour_type]}: write the "
            "class ids as a grey PNG",
        )
    pixels = _decoded(image, png.rebuilt(palette_as_grey=True), cv2.IMREAD_UNCHANGED)
    # A decoder scales values of fewer than 8 bits to 0 to 255.
    step = 255 // (2**png.depth - 1) if png.depth < 8 else 1
    values = pixels if step == 1 else pixels // np.uint8(step)
    if png.colour_type == PALETTE:
        _check_grey_palette(values, png.palette)
    return values


def _check_grey_palette(indices: NDArray[np.uint8], palette: bytes) -> None:
    """Refuse indices whose greys fall where they rise: whether index or grey is meant cannot be known."""
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    colours = np.frombuffer(palette.ljust(768, b"\x00"), np.uint8).reshape(256, 3)[used].astype(int)
    if (colours == colours[:, :1]).all() and (np.diff(colours[:, 0]) < 0).any():
        shown = ", ".join(f"{index} is grey {colour[0]}" for index, colour in zip(used[:4], colours, strict=False))
        raise MalformedImageError(
            NOT_LABELS,
            f"its palette contradicts its indices ({shown}): whether index or colour is meant cannot be known; write "
            "the class ids as a grey PNG",
        )


def _decoded(image: CheckedImage, data: bytes, flags: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise MalformedImageError("corrupt data", f"the {image.kind} cannot be decoded ({error.err})") from error
    if pixels is None:
        raise MalformedImageError("corrupt data", f"the {image.kind} ({len(data)} bytes) cannot be decoded")
    # The decoded size must be the one that was checked before this memory was allocated.
    if pixels.shape[:2] != (image.height, image.width):
        found = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise MalformedImageError(
            "corrupt data", f"the {image.kind} says that it is {image.width}x{image.height}, and is {found}"
        )
    return pixels
