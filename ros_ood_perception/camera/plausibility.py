"""Whether a frame looks like one of a working camera: frozen, black, blown out, blurred, of another size. Knows no ROS.

A network gives a confident answer for a frozen or blind camera too. The limits are far from ordinary road frames:
`test_frame_plausibility.py` checks them on real ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.letterbox import Letterbox

SAMPLED_WIDTH = 160
"""Every k-th pixel of every k-th row is sampled, so that about so many pixels of a row remain."""
DARK_BELOW, DARK_SHARE = 16, 0.95
BRIGHT_FROM, BRIGHT_SHARE = 250, 0.5
MIN_SHARPNESS = 0.01
"""Variance of the Laplacian over the variance of the grey values, in the middle of the image at full resolution."""
MIN_VARIANCE = 4.0
FROZEN_AFTER = 10
"""Consecutive frames that equal the frame before in every compared pixel, a sample of all. Sensor noise makes that
impossible."""
SHARPNESS_EVERY_S = 0.5
"""Sharpness is measured in the first frame after each multiple of this time. So which frames are measured depends on
their times alone, and a replay that begins later measures the same ones."""
MAX_ASPECT_DIFFERENCE = 0.1
MIN_LETTERBOX_SHARE = 0.5
"""Share of the input that a frame must fill. 16:9 fills 75 % of 4:3, and 2.35:1 fills 57 %."""
SIDE_MULTIPLE = 32
"""Sides of an exported input are multiples of the encoder's stride."""
FILLED_ROWS = 8
FILL_GREY = (126, 130)
"""A JPEG decoder fills lost blocks with grey. The right half of the lower edge shows that."""


class FramePlausibility:
    """Follows the frames of one camera. Not thread-safe.

    Args:
        model_size_for: gives the height and width of the bundle's input for a frame of a height and width, pixels.
        letterboxed: whether a frame of another aspect is letterboxed to it. Otherwise it is stretched.
    """

    def __init__(self, model_size_for: Callable[[tuple[int, int]], tuple[int, int]], letterboxed: bool = False) -> None:
        self._model_size_for = model_size_for
        self._letterboxed = letterboxed
        self._first_size: tuple[int, int] | None = None
        self._last_digest = b""
        self._repeated = 0
        self._sharpness_due = 0.0
        self._blurred = False
        self._filled_rows: int | None = None

    def state(self) -> dict[str, Any]:
        """What is remembered of earlier frames, as plain data (JSON)."""
        return {
            "first_size": self._first_size,
            "last_digest": self._last_digest.hex(),
            "repeated": self._repeated,
            "sharpness_due": self._sharpness_due,
            "blurred": self._blurred,
            "filled_rows": self._filled_rows,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        height, width = state["first_size"] or (0, 0)
        self._first_size = (height, width) if state["first_size"] else None
        self._last_digest = bytes.fromhex(state["last_digest"])
        self._repeated = state["repeated"]
        self._sharpness_due, self._blurred = state["sharpness_due"], state["blurred"]
        self._filled_rows = state["filled_rows"]

    def problems(self, image: NDArray[np.uint8], now_s: float) -> dict[str, str]:
        """What is wrong with the next frame; empty when nothing is.

        Args:
            image: (H, W, 3) uint8.
            now_s: of a monotonic clock, seconds. Sharpness takes milliseconds, so it is not measured for every frame.

        Returns:
            Kind (`frozen`, `black`, `blown_out`, `blurred`, `wrong_size`, `filled_up`) to sentence.
        """
        found: dict[str, str] = {}
        if size_problem := self._size_problem(image.shape[0], image.shape[1]):
            found["wrong_size"] = size_problem
        if self._is_filled_up(image):
            found["filled_up"] = (
                "the lower edge is grey where it was not in the frame before, as after data of a JPEG were lost on the "
                "way (cable, USB, network)"
            )
        step = max(1, image.shape[1] // SAMPLED_WIDTH)
        sample = np.ascontiguousarray(image[::step, ::step])
        digest = hashlib.blake2b(sample.data, digest_size=16).digest()
        self._repeated = self._repeated + 1 if digest == self._last_digest else 0
        self._last_digest = digest
        if self._repeated >= FROZEN_AFTER:
            found["frozen"] = f"the last {self._repeated + 1} frames are equal to the bit"
        # Sums of the three channels: NumPy's mean over the last axis takes longer than all the rest.
        total = sample[..., 0].astype(np.uint16) + sample[..., 1] + sample[..., 2]
        dark, bright = float((total < 3 * DARK_BELOW).mean()), float((total >= 3 * BRIGHT_FROM).mean())
        if dark > DARK_SHARE:
            found["black"] = f"{dark:.0%} of the pixels are darker than {DARK_BELOW} of 255"
        elif bright > BRIGHT_SHARE:
            found["blown_out"] = f"{bright:.0%} of the pixels are at {BRIGHT_FROM} of 255 or above"
        elif self._is_blurred(image, now_s):
            found["blurred"] = "no sharp edge in the middle of the image: out of focus, dirt, fog, or motion"
        return found

    def _is_filled_up(self, image: NDArray[np.uint8]) -> bool:
        half = image[:, image.shape[1] // 2 :]
        colour, before = half[-1, -1], self._filled_rows
        self._filled_rows = 0
        grey = FILL_GREY[0] <= int(colour.min()) and int(colour.max()) <= FILL_GREY[1]
        if grey and bool((half[-FILLED_ROWS:] == colour).all()):
            others = np.flatnonzero((half != colour).any(axis=(1, 2)))
            self._filled_rows = len(half) - 1 - int(others[-1]) if len(others) else 0
        # A bar that the camera draws has the same height in every frame. The first frame has none to compare with.
        return self._filled_rows > 0 and before is not None and self._filled_rows != before

    def _size_problem(self, height: int, width: int) -> str | None:
        self._first_size = self._first_size or (height, width)
        if (height, width) != self._first_size:
            return f"{width}x{height}, the first frame had {self._first_size[1]}x{self._first_size[0]}"
        model_size = self._model_size_for((height, width))
        if self._letterboxed:
            share = Letterbox((height, width), model_size).share
            return _small_in_letterbox(height, width, model_size, share) if share < MIN_LETTERBOX_SHARE else None
        stretch = (width / height) / (model_size[1] / model_size[0])
        return _stretched(height, width, model_size) if abs(stretch - 1) > MAX_ASPECT_DIFFERENCE else None

    def _is_blurred(self, image: NDArray[np.uint8], now_s: float) -> bool:
        if now_s >= self._sharpness_due:
            self._sharpness_due = (math.floor(now_s / SHARPNESS_EVERY_S) + 1) * SHARPNESS_EVERY_S
            height, width = image.shape[:2]
            middle = image[height // 4 : max(3 * height // 4, 1), width // 4 : max(3 * width // 4, 1)]
            grey = cv2.cvtColor(np.ascontiguousarray(middle), cv2.COLOR_RGB2GRAY)
            variance = float(grey.var())
            edges = float(cv2.Laplacian(grey, cv2.CV_32F).var())
            self._blurred = variance < MIN_VARIANCE or edges / variance < MIN_SHARPNESS
        return self._blurred


def _stretched(height: int, width: int, model_size: tuple[int, int]) -> str:
    """What a frame of another aspect means, and both remedies with their sizes."""
    model_height, model_width = model_size
    stretch = (width * model_height) / (height * model_width)
    narrower = "narrower" if stretch > 1 else "flatter"
    percent = 100 * (1 - min(stretch, 1 / stretch))
    crop_width = max(1, min(width, round(height * model_width / model_height)))
    crop_height = max(1, min(height, round(width * model_height / model_width)))
    return (
        f"{width}x{height} is stretched to the model's {model_width}x{model_height}: the model sees everything "
        f"{percent:.0f} % {narrower} than in training. Masks and obstacles still fit the frame. Remedy: "
        f"crop to {crop_width}x{crop_height} with its camera_info (CropDecimateNode of image_proc), or give the "
        f"bundle an input size for this camera ({_size_command(height, width, model_size)})"
    )


def _small_in_letterbox(height: int, width: int, model_size: tuple[int, int], share: float) -> str:
    """What a frame that fills little of the letterbox means, and the remedy."""
    return (
        f"{width}x{height} fills only {share:.0%} of the model's {model_size[1]}x{model_size[0]}: the model sees it "
        "small, and computes the rest for nothing. Masks and obstacles still fit the frame. Remedy: give the "
        f"bundle an input size for this camera ({_size_command(height, width, model_size)})"
    )


def _size_command(height: int, width: int, model_size: tuple[int, int]) -> str:
    """Adds a size of the same cost, in the camera's aspect. The vehicle has no training code."""
    factor = (model_size[0] * model_size[1] / (height * width)) ** 0.5
    sides = (max(1, round(side * factor / SIDE_MULTIPLE)) * SIDE_MULTIPLE for side in (height, width))
    return f"in a checkout: python -m training.add_size BUNDLE --size {'x'.join(map(str, sides))}"
