"""AUPIMO: the recall of each image's anomaly at very few false alarms.

A vehicle cannot drive if it brakes for one pixel in a thousand. AUPIMO is the recall in each image with anomalies,
averaged over the thresholds that mark one normal pixel in 100,000 to one in 10,000 (Bertoldo et al., "AUPIMO:
Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", arXiv 2401.01984).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.anomaly_pixels import MetricInputError, split

LOWEST_FPR, HIGHEST_FPR = 1e-5, 1e-4
CODES = 1 << 16
"""Distinct float16 scores, in their order."""


def _codes(values: NDArray[np.float16]) -> NDArray[np.int64]:
    """The rank of each float16 number among all of them, 0 to 65535."""
    # Adding zero turns -0.0 into 0.0, which is the same score.
    bits = (values + np.float16(0)).view(np.uint16).astype(np.int64)
    return np.where(bits >> 15, CODES - 1 - bits, bits + CODES // 2)


def _at_or_above(values: NDArray[np.float16]) -> NDArray[np.int64]:
    """(65536,) number of values with at least each code."""
    return np.bincount(_codes(values), minlength=CODES)[::-1].cumsum()[::-1]


class SharedFalsePositiveRate:
    """Streaming, first pass: the false-positive rate of each threshold on normal images.

    It is the mean of the rates of the images. Normal images have no anomaly pixel. Road sets often have no normal
    images. Then the inlier pixels of all images are taken instead, and `of_normal_images` is False.
    """

    def __init__(self) -> None:
        self._normal = np.zeros(CODES)
        self._all = np.zeros(CODES)
        self.normal_images = self.images = 0

    def update(self, score: NDArray[np.float16], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) float16, anomaly (H, W) uint8 0, 1 or 255. A frame without inlier pixels is
        ignored.

        Raises:
            MetricInputError: see `anomaly_pixels.checked`, or the score is not float16.
        """
        anomalies, inliers = _split(score, anomaly)
        if not inliers.size:
            return
        rate = _at_or_above(inliers) / inliers.size
        self._all += rate
        self.images += 1
        if not anomalies.size:
            self._normal += rate
            self.normal_images += 1

    def merge(self, other: SharedFalsePositiveRate) -> None:
        """Add the frames of another process."""
        self._normal += other._normal
        self._all += other._all
        self.normal_images += other.normal_images
        self.images += other.images

    @property
    def of_normal_images(self) -> bool:
        """Whether the rate is that of images without anomalies."""
        return self.normal_images > 0

    def rates(self) -> NDArray[np.float64] | None:
        """(65536,) rate of each threshold, highest threshold last; None without an inlier pixel."""
        if self.of_normal_images:
            return self._normal / self.normal_images
        return self._all / self.images if self.images else None


@dataclass(frozen=True)
class PerImageOverlapFigures:
    """Fractions, larger is better; NaN where undefined.

    Attributes:
        aupimo: mean over the images with anomalies.
        lowest_tenth: the largest area in the worst tenth of the images. Nine images in ten reach it.
        images: number of images with anomalies.
    """

    aupimo: float
    lowest_tenth: float
    images: int


class PerImageOverlap:
    """Streaming, second pass: the area under the curve of each image with anomalies.

    AUPIMO = 1 / log(U / L) * integral from L to U of TPR(t(f)) d log f, L = 1e-5 and U = 1e-4. t(f) is the lowest
    threshold whose shared false-positive rate is at most f. Between two float16 scores the curve is a step; the
    authors' code draws lines between 300,000 thresholds.

    >>> shared = SharedFalsePositiveRate()
    >>> score, anomaly = np.array([[0.9, 0.1, 0.2]], np.float16), np.array([[1, 0, 0]], np.uint8)
    >>> shared.update(score, anomaly)
    >>> overlap = PerImageOverlap(shared)
    >>> overlap.update(score, anomaly)
    >>> round(overlap.compute().aupimo, 4)  # the anomaly scores above every inlier
    1.0
    """

    def __init__(self, shared: SharedFalsePositiveRate) -> None:
        self._weights = _weights(shared.rates())
        self.areas: list[float] = []

    def update(self, score: NDArray[np.float16], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame, as `SharedFalsePositiveRate.update`; without anomaly pixels it does not count."""
        anomalies, _ = _split(score, anomaly)
        if anomalies.size and self._weights is not None:
            self.areas.append(float(self._weights @ _at_or_above(anomalies)) / anomalies.size)

    def compute(self) -> PerImageOverlapFigures:
        """The figures over the images so far."""
        if not self.areas:
            return PerImageOverlapFigures(float("nan"), float("nan"), 0)
        return PerImageOverlapFigures(float(np.mean(self.areas)), _tenth(self.areas), len(self.areas))


def _weights(rates: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """The share of the integral in which each code is the threshold: (65536,), with a sum of at most 1.

    The sum is below 1 if some rates are reached by no threshold: nothing is marked there.
    """
    if rates is None:
        return None
    # A threshold applies from its own rate up to the next larger rate. Of thresholds with one rate, the lowest applies.
    lowest = np.append(True, rates[1:] != rates[:-1])
    found = np.flatnonzero(lowest)
    upper = np.append(np.inf, rates[found[:-1]])
    span = [np.log(np.clip(edge, LOWEST_FPR, HIGHEST_FPR)) for edge in (rates[found], upper)]
    weights = np.zeros(CODES)
    weights[found] = (span[1] - span[0]) / math.log(HIGHEST_FPR / LOWEST_FPR)
    return weights


def _tenth(areas: Sequence[float]) -> float:
    ordered = sorted(areas)
    return ordered[max(math.ceil(len(ordered) / 10) - 1, 0)]


def _split(score: NDArray[Any], anomaly: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    if score.dtype != np.float16:
        raise MetricInputError(f"the score is {score.dtype}; it must be float16")
    return split(score, anomaly)
