"""A scene in every encoding of `sensor_msgs/Image`, written byte by byte from the definitions of the encodings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.raw_image import PlainImage

HEIGHT, WIDTH = 16, 48
RED, BLUE, DARK, BRIGHT = (200, 30, 40), (20, 60, 210), (50, 50, 50), (180, 180, 180)
COLUMNS_RED, COLUMNS_BLUE, COLUMNS_GREY = slice(0, 16), slice(32, 48), slice(16, 32)
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="camera")
ORDERS = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2, 3), "bgra": (2, 1, 0, 3)}
MOSAICS = {name: tuple("rgb".index(letter) for letter in name) for name in ("rggb", "bggr", "gbrg", "grbg")}


def scene() -> NDArray[np.uint8]:
    """(H, W, 3) RGB: red on the left, blue on the right, a step from dark to bright grey between them."""
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, COLUMNS_RED] = RED
    pixels[:, COLUMNS_BLUE] = BLUE
    pixels[: HEIGHT // 2, COLUMNS_GREY] = DARK
    pixels[HEIGHT // 2 :, COLUMNS_GREY] = BRIGHT
    return pixels


def luma_and_colour(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Y (H, W) and U, V (H, W, 2) of ITU-R BT.601, with Y from 16 to 235."""
    red, green, blue = np.moveaxis(rgb.astype(float) / 255, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - luma) / 1.772, (red - luma) / 1.402
    colour = np.rint(128 + 224 * np.stack([u, v], axis=-1)).astype(np.uint8)
    return np.rint(16 + 219 * luma).astype(np.uint8), colour


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) brightness."""
    return np.rint(rgb @ np.array((0.299, 0.587, 0.114))).astype(np.uint8)


def _interleaved(rgb: NDArray[np.uint8], order: tuple[int, ...]) -> NDArray[np.uint8]:
    with_alpha = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 99, np.uint8)], axis=-1)
    return with_alpha[..., order].reshape(len(rgb), -1)


def _mosaic(rgb: NDArray[np.uint8], letters: tuple[int, ...]) -> NDArray[np.uint8]:
    """The filter over the first pixel, the one right of it, and the two below them."""
    found = np.empty(rgb.shape[:2], np.uint8)
    for index, channel in enumerate(letters):
        found[index // 2 :: 2, index % 2 :: 2] = rgb[index // 2 :: 2, index % 2 :: 2, channel]
    return found


def planes(name: str, rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The planes of the scene, (rows, bytes) each, one byte a channel; several only for `nv..`."""
    base = name.removesuffix("8").removesuffix("16")
    base = {"8UC1": "mono", "8UC3": "bgr", "8UC4": "bgra", "16UC3": "bgr", "16UC4": "bgra"}.get(name, base)
    if base == "mono":
        return [grey(rgb)]
    if base in ORDERS:
        return [_interleaved(rgb, ORDERS[base])]
    if base.startswith("bayer_"):
        return [_mosaic(rgb, MOSAICS[base.removeprefix("bayer_")])]
    luma, colour = luma_and_colour(rgb)
    if name == "nv24":
        return [luma, colour.reshape(len(rgb), -1)]
    if name in ("nv12", "nv21"):
        return [luma, colour[::2, ::2, :: 1 if name == "nv12" else -1].reshape(len(rgb) // 2, -1)]
    u, v = colour[:, ::2, 0], colour[:, ::2, 1]
    first, second = luma[:, ::2], luma[:, 1::2]
    parts = (u, first, v, second) if name in ("uyvy", "yuv422") else (first, u, second, v)
    return [np.stack(parts, axis=-1).reshape(len(rgb), -1)]


def message(name: str, padding: int = 0, big_endian: bool = False, rgb: NDArray[np.uint8] | None = None) -> PlainImage:
    """The scene as a message.

    Args:
        name: of the encoding.
        padding: bytes behind each row; twice as many in the second plane of `nv24`, whose rows are twice as long.
        big_endian: byte order of encodings with two bytes a channel.
        rgb: another scene.
    """
    rgb = scene() if rgb is None else rgb
    found = planes(name, rgb)
    if "16" in name:
        # 255 of 255 is 65535 of 65535, so 257 times the value. With 100 more, both bytes differ, and it rounds down.
        found = [
            (plane * np.uint16(257) + np.uint16(100)).astype(">u2" if big_endian else "<u2").view(np.uint8)
            for plane in found
        ]
    step = found[0].shape[1] + padding
    padded = []
    for number, plane in enumerate(found):
        wide = np.full((len(plane), 2 * step if name == "nv24" and number else step), 77, np.uint8)
        wide[:, : plane.shape[1]] = plane
        padded.append(wide.reshape(-1))
    return PlainImage(HEADER, rgb.shape[0], rgb.shape[1], name, step, np.concatenate(padded), int(big_endian))
