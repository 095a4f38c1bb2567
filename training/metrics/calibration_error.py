"""Expected calibration error: is a share c of the pixels predicted with confidence c correct?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.metrics.anomaly_pixels import MetricInputError

BINS = 15


class CalibrationError:
    """Streaming: `update` with each frame, `merge`, `compute` (Guo et al., arXiv 1706.04599, equation 3).

    ECE = sum over bins of share(bin) |accuracy(bin) - mean confidence(bin)|, with `BINS` equal bins of (0, 1].

    >>> metric = CalibrationError()
    >>> labels = np.zeros((1, 4), np.uint8)
    >>> metric.update(np.full((1, 4), 0.9), np.array([[0, 0, 0, 5]], np.uint8), labels)  # 0.9 sure, 3 of 4 correct
    >>> round(metric.compute(), 4)
    0.15
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.pixels = np.zeros(bins, np.int64)
        self.correct = np.zeros(bins, np.int64)
        self.confidence = np.zeros(bins, np.float64)

    def update(self, confidence: NDArray[Any], predicted: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Add one frame.

        Args:
            confidence: (H, W) floating point in [0, 1], the largest class probability.
            predicted: (H, W) uint8 class ids.
            labels: (H, W) uint8 true ids, 255 left out.

        Raises:
            MetricInputError: sizes that differ, or confidences outside [0, 1].
        """
        if not confidence.shape == predicted.shape == labels.shape:
            raise MetricInputError(
                f"confidence {confidence.shape}, prediction {predicted.shape} and labels {labels.shape} differ in size"
            )
        valid = labels != IGNORE
        values = confidence[valid].astype(np.float64)
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise MetricInputError("confidences must be in [0, 1]")
        number = np.clip(np.ceil(values * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        right = predicted[valid] == labels[valid]
        self.pixels += np.bincount(number, minlength=self.bins)
        self.correct += np.bincount(number[right], minlength=self.bins)
        self.confidence += np.bincount(number, weights=values, minlength=self.bins)

    def merge(self, other: CalibrationError) -> None:
        """Add the frames of another process."""
        self.pixels += other.pixels
        self.correct += other.correct
        self.confidence += other.confidence

    def reliability(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean confidence, accuracy and share of the pixels for each non-empty bin, each (n,) float64."""
        used = self.pixels > 0
        pixels = self.pixels[used]
        return self.confidence[used] / pixels, self.correct[used] / pixels, pixels / max(pixels.sum(), 1)

    def compute(self) -> float:
        """The expected calibration error, a fraction; NaN without pixels."""
        confidence, accuracy, share = self.reliability()
        return float((share * np.abs(accuracy - confidence)).sum()) if share.size else float("nan")
