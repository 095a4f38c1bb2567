"""The frames that the cameras send: a small pool of distinct good frames, identified by their index."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CAMERAS = ("front", "left")
POOL_SIZE = 5
TRANSPORTS = ("raw", "compressed")
RAW_ENCODINGS = ("bgr8", "rgb8", "bgra8", "mono8")
ROW_PADDING = 16


@dataclass(frozen=True)
class PoolFrame:
    """One good frame for each transport. The two forms need not hold the same pixels.

    Attributes:
        encoding: of `data`, as `sensor_msgs/Image` has it.
        step: bytes of a row; some frames have padding.
        data: height * step bytes.
        file: a PNG or JPEG.
        format: of `file`, as image_transport writes it.
    """

    height: int
    width: int
    encoding: str
    step: int
    data: bytes
    file: bytes
    format: str


def image_topic(camera: str, transport: str) -> str:
    """The topic of a camera's images."""
    return f"/{camera}/image_raw" + ("/compressed" if transport == "compressed" else "")


def info_topic(camera: str) -> str:
    """The topic of its calibration."""
    return f"/{camera}/camera_info"


def pool(camera: str, size: tuple[int, int]) -> list[PoolFrame]:
    """The frames of a camera, always the same.

    Args:
        camera: one of `CAMERAS`.
        size: height and width, pixels; at least 16 each.
    """
    return [_frame(camera, number, size) for number in range(POOL_SIZE)]


def _frame(camera: str, number: int, size: tuple[int, int]) -> PoolFrame:
    height, width = size
    image = _picture(1000 * CAMERAS.index(camera) + number, size)
    encoding = RAW_ENCODINGS[number % len(RAW_ENCODINGS)]
    codes = {"rgb8": cv2.COLOR_BGR2RGB, "bgra8": cv2.COLOR_BGR2BGRA, "mono8": cv2.COLOR_BGR2GRAY}
    pixels = cv2.cvtColor(image, codes[encoding]) if encoding in codes else image
    rows = pixels.reshape(height, -1)
    # Every second frame has padding at the end of its rows.
    padding = ROW_PADDING * (number % 2)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    kind = ("png", "jpeg")[number % 2]
    return PoolFrame(
        height,
        width,
        encoding,
        rows.shape[1],
        rows.tobytes(),
        cv2.imencode(f".{kind}", image)[1].tobytes(),
        f"bgr8; {kind} compressed bgr8",
    )


def _picture(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Smooth ground and sky with blocks on them: all classes occur, and no two frames have equal masks."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (4, 5, 3), np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        top, left = (int(generator.integers(0, side - side // 4)) for side in size)
        colour = generator.integers(0, 250, 3).tolist()
        cv2.rectangle(image, (left, top), (left + size[1] // 6, top + size[0] // 5), colour, cv2.FILLED)
    return image
