"""AUTC, the area under the threshold curves: the mean error over all thresholds.

AUROC and FPR95 take the best threshold for each rate, which is unknown on the road. AUTC is the mean over all
thresholds in [0, 1]. It is small only if inliers score near 0 and anomalies near 1 (Humblot-Renaux et al., "Beyond
AUROC & co. for evaluating out-of-distribution detection performance", arXiv 2306.14658).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.anomaly_pixels import MetricInputError, split


@dataclass(frozen=True)
class ThresholdCurveFigures:
    """Fractions, smaller is better; NaN where undefined.

    Attributes:
        aufpr: integral over t from 0 to 1 of the false-positive rate at threshold t; NaN without inlier pixels.
        aufnr: the same of the false-negative rate; NaN without anomaly pixels.
        autc: their mean.
    """

    aufpr: float
    aufnr: float
    autc: float


class ThresholdCurveMetrics:
    """Streaming: `update` with each frame, `merge`, `compute`. Keeps four numbers.

    A pixel is marked at threshold t if its score is at least t. The share of marked pixels, integrated over t from 0 to
    1, is their mean score. So AUFPR is the mean score of the inliers, and AUFNR is 1 minus that of the anomalies. Both
    depend on how the score is mapped to [0, 1].

    >>> metric = ThresholdCurveMetrics()
    >>> metric.update(np.array([[0.25, 0.75]]), np.array([[0, 1]], np.uint8))
    >>> metric.compute()
    ThresholdCurveFigures(aufpr=0.25, aufnr=0.25, autc=0.25)
    """

    def __init__(self) -> None:
        self.inliers = self.anomalies = 0
        self.inlier_sum = self.anomaly_sum = 0.0

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) in [0, 1], anomaly (H, W) uint8 0, 1 or 255.

        Raises:
            MetricInputError: see `anomaly_pixels.checked`, or a score that counts is outside [0, 1].
        """
        anomalies, inliers = split(score, anomaly)
        for values in (anomalies, inliers):
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise MetricInputError(f"scores are in [{values.min():g}, {values.max():g}]; they must be in [0, 1]")
        self.anomalies += anomalies.size
        self.inliers += inliers.size
        self.anomaly_sum += float(anomalies.sum(dtype=np.float64))
        self.inlier_sum += float(inliers.sum(dtype=np.float64))

    def merge(self, other: ThresholdCurveMetrics) -> None:
        """Add the frames of another process."""
        self.anomalies += other.anomalies
        self.inliers += other.inliers
        self.anomaly_sum += other.anomaly_sum
        self.inlier_sum += other.inlier_sum

    def compute(self) -> ThresholdCurveFigures:
        """The figures over all frames so far."""
        nan = float("nan")
        aufpr = self.inlier_sum / self.inliers if self.inliers else nan
        aufnr = 1 - self.anomaly_sum / self.anomalies if self.anomalies else nan
        return ThresholdCurveFigures(aufpr, aufnr, (aufpr + aufnr) / 2)
