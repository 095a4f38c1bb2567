"""Whether an engine computes what another one computes, on the same frames, within limits for each precision.

An engine in half or 8-bit precision may differ a little from ONNX Runtime in float32. That is measured whenever a GPU
engine is opened. An engine that differs by more than the limits is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.engine import EngineError, EngineOutput, InferenceEngine

FIXED_FRAMES = 2


@dataclass(frozen=True)
class Parity:
    """How far two engines agree on the same frames.

    Attributes:
        frames: number of frames that were compared.
        label_agreement: share of the pixels with the same class, 0 to 1.
        score_difference: largest absolute difference of the anomaly score.
        mean_score_difference: mean absolute difference of the anomaly score.
    """

    frames: int
    label_agreement: float
    score_difference: float
    mean_score_difference: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.label_agreement:.3%} of the labels agree on {self.frames} frames, the score differs by "
            f"{self.mean_score_difference:.1e} in the mean and {self.score_difference:.1e} at most"
        )


@dataclass(frozen=True)
class ParityLimits:
    """An engine must have more `label_agreement` than this, and at most these score differences."""

    label_agreement: float
    score_difference: float
    mean_score_difference: float


LIMITS = {
    "fp32": ParityLimits(0.999, 1e-2, 1e-4),
    "fp16": ParityLimits(0.995, 1e-1, 1e-3),
    "int8": ParityLimits(0.95, 1.0, 2e-2),
}
"""By precision. docs/gpu.md has the measurements behind them."""


class ParityMeter:
    """Accumulates parity over frames, so that only one frame is in memory."""

    def __init__(self) -> None:
        self._frames = 0
        self._pixels = 0
        self._equal = 0
        self._sum = 0.0
        self._largest = 0.0

    def add(self, reference: EngineOutput, found: EngineOutput) -> None:
        """Add the outputs of both engines on the same images (N, H, W, 3).

        Raises:
            EngineError: their sizes differ.
        """
        if reference.semantic.shape != found.semantic.shape or reference.anomaly_score.shape != (
            found.anomaly_score.shape
        ):
            raise EngineError(
                f"one engine gives outputs {found.semantic.shape} and {found.anomaly_score.shape}, "
                f"the reference {reference.semantic.shape} and {reference.anomaly_score.shape}"
            )
        difference = np.abs(reference.anomaly_score - found.anomaly_score)
        self._frames += len(reference.semantic)
        self._pixels += reference.semantic.size
        self._equal += int((reference.semantic == found.semantic).sum())
        self._sum += float(difference.sum(dtype=np.float64))
        # max() keeps a NaN. Every comparison with it is false, and `require_parity` is written so that it then fails.
        self._largest = float(np.maximum(self._largest, difference.max()))

    def parity(self) -> Parity:
        """Of all frames that were added."""
        pixels = max(self._pixels, 1)
        return Parity(self._frames, self._equal / pixels, self._largest, self._sum / pixels)


def measure_parity(reference: InferenceEngine, engine: InferenceEngine, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Run both engines on the same frames, (H, W, 3) uint8 each.

    Raises:
        EngineError: one of the engines fails.
    """
    meter = ParityMeter()
    for image in images:
        meter.add(reference.run(image[None]), engine.run(image[None]))
    return meter.parity()


def require_parity(parity: Parity, precision: str, what: str) -> None:
    """Refuse an engine that differs by more than the limits of its precision.

    Args:
        precision: a key of `LIMITS`.
        what: name of the engine for the message.

    Raises:
        EngineError: with the measured and the allowed values.
    """
    limits = LIMITS[precision]
    if not (
        parity.frames > 0
        and parity.label_agreement > limits.label_agreement
        and parity.score_difference <= limits.score_difference
        and parity.mean_score_difference <= limits.mean_score_difference
    ):
        raise EngineError(
            f"{what} is not used: it differs from ONNX Runtime by more than {precision} may. {parity}; needed are more "
            f"than {limits.label_agreement:.1%}, at most {limits.mean_score_difference:.0e} and at most "
            f"{limits.score_difference:.0e}. Take another precision, or report this with the GPU's name and "
            "TensorRT's version"
        )


def fixed_frames(height: int, width: int, count: int = FIXED_FRAMES) -> list[NDArray[np.uint8]]:
    """Street scenes that are drawn with a seed, and so are the same on every machine.

    They have sky, buildings, a road with markings, vehicles, poles and trees, with texture and noise. So the network's
    layers see values as in use. On noise alone a segmenter is undecided nearly everywhere, and its labels say little.

    Returns:
        `count` images (height, width, 3) uint8.
    """
    return [_street_scene(height, width, np.random.default_rng(seed)) for seed in range(count)]


def _street_scene(height: int, width: int, random: np.random.Generator) -> NDArray[np.uint8]:
    # Drawn at one size and scaled, so that all sizes show the same scene.
    rows, columns = 480, 640
    image = np.empty((rows, columns, 3), np.float32)
    image[:] = np.linspace(0.65, 0.95, rows, dtype=np.float32)[:, None, None] * np.array([190, 215, 245], np.float32)
    horizon = int(random.integers(200, 250))
    left = 0
    while left < columns:
        right = left + int(random.integers(60, 180))
        top = int(random.integers(40, horizon - 40))
        wall = random.integers(60, 190, 3).tolist()
        cv2.rectangle(image, (left, top), (right, horizon + 30), wall, -1)
        for row in range(top + 12, horizon, 34):
            for column in range(left + 8, right - 14, 30):
                cv2.rectangle(image, (column, row), (column + 13, row + 18), [0.5 * c for c in wall], -1)
        left = right
    cv2.rectangle(image, (0, horizon), (columns, rows), (150, 145, 140), -1)
    vanishing = int(columns * random.uniform(0.4, 0.6))
    road = np.array([[vanishing - 25, horizon], [vanishing + 25, horizon], [columns - 20, rows], [20, rows]])
    cv2.fillPoly(image, [road.astype(np.int32)], (95, 95, 100))
    for step in range(6):
        row = horizon + 10 + 8 * step * step
        cv2.rectangle(
            image, (vanishing - 1 - step, row), (vanishing + 1 + step, row + 4 + 4 * step), (225, 225, 220), -1
        )
    for _ in range(5):
        depth = float(random.uniform(0.15, 1.0))
        foot = int(horizon + depth * (rows - horizon) * 0.8)
        centre = int(random.integers(40, columns - 40))
        size = int(20 + 80 * depth)
        paint = random.integers(20, 230, 3).tolist()
        cv2.rectangle(image, (centre - size, foot - size), (centre + size, foot), paint, -1)
        cv2.rectangle(
            image, (centre - size + 8, foot - size + 4), (centre + size - 8, foot - size // 2), (40, 45, 55), -1
        )
        cv2.circle(image, (centre - size // 2, foot), max(size // 5, 2), (20, 20, 22), -1)
        cv2.circle(image, (centre + size // 2, foot), max(size // 5, 2), (20, 20, 22), -1)
    for _ in range(4):
        column = int(random.integers(0, columns))
        cv2.line(image, (column, int(random.integers(60, 140))), (column, horizon + 60), (70, 70, 72), 3)
    for _ in range(3):
        centre_of_tree = random.integers([0, horizon - 90], [columns, horizon])
        for _ in range(60):
            leaf = centre_of_tree + random.normal(0, 26, 2)
            shade = float(random.uniform(0.5, 1.2))
            cv2.circle(image, (int(leaf[0]), int(leaf[1])), 9, (50 * shade, 85 * shade, 40 * shade), -1)
    image = cv2.GaussianBlur(image, (3, 3), 0) + random.normal(0, 5, image.shape).astype(np.float32)
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(scaled, 0, 255).astype(np.uint8)
