"""The anomaly score as a monitor of the network: does it mark the pixels that the network predicts wrongly?

A wrong prediction harms a vehicle whether the object is known or unknown ("Out-of-distribution detection is not all
you need", Guerin et al., arXiv 2211.16158: out-of-model-scope detection).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.pixel_exact import ExactPixelMetrics

_EXACT_BELOW = 256
_EULER = 0.5772156649015329


@dataclass(frozen=True)
class ErrorMonitorFigures:
    """Fractions; NaN where undefined: AUROC and FPR95 without wrong or without right pixels, all without any pixel.

    Attributes:
        error_rate: share of wrong pixels, the risk at full coverage.
        auroc: of the score, with the wrong pixels as positives.
        fpr95: share of right pixels that are marked at the threshold that marks 95 % of the wrong pixels.
        aurc: area under the risk-coverage curve: the error rate of the lowest-scoring pixels, averaged over all
            shares of kept pixels. Smaller is better.
        excess_aurc: `aurc` minus that of a perfect order, which keeps all right pixels first. It measures the score
            independently of the error rate.
    """

    error_rate: float
    auroc: float
    fpr95: float
    aurc: float
    excess_aurc: float


@dataclass
class ErrorMonitorMetrics:
    """Streaming: `update` with each frame, `merge`, `compute`. Memory does not grow with the number of frames.

    A pixel with a class is wrong if another class is predicted. An anomaly pixel is always wrong: no class of the
    network is right for it.

    AURC = 1/n sum over i of (wrong pixels among the i lowest-scoring) / i (Geifman and El-Yaniv, arXiv 1805.08206).
    For pixels with one score it is the mean over all their orders.

    >>> metric = ErrorMonitorMetrics()
    >>> predicted, labels = np.array([[0, 1, 2, 2]], np.uint8), np.array([[0, 1, 2, 0]], np.uint8)
    >>> metric.update(np.array([[0.1, 0.2, 0.3, 0.9]]), predicted, labels, np.zeros((1, 4), np.uint8))
    >>> figures = metric.compute()
    >>> figures.error_rate, figures.auroc, figures.excess_aurc  # the wrong pixel scores highest
    (0.25, 1.0, 0.0)
    """

    pixels: ExactPixelMetrics = field(default_factory=ExactPixelMetrics)

    def update(
        self,
        score: NDArray[Any],
        predicted: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        anomaly: NDArray[np.uint8],
    ) -> None:
        """Add one frame.

        Args:
            score: (H, W) floating point.
            predicted: (H, W) uint8 class ids.
            labels: (H, W) uint8 true ids, 255 where no class is known.
            anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 left out.

        Raises:
            MetricInputError: sizes that differ, or see `anomaly_pixels.checked`.
        """
        if not score.shape == predicted.shape == labels.shape == anomaly.shape:
            raise MetricInputError(
                f"score {score.shape}, prediction {predicted.shape}, labels {labels.shape} and anomalies "
                f"{anomaly.shape} differ in size"
            )
        wrong = np.where(labels == IGNORE, np.uint8(IGNORE), (predicted != labels).astype(np.uint8))
        self.pixels.update(score, np.where(anomaly == ANOMALY, np.uint8(1), wrong))

    def merge(self, other: ErrorMonitorMetrics) -> None:
        """Add the frames of another process."""
        self.pixels.merge(other.pixels)

    def compute(self) -> ErrorMonitorFigures:
        """The figures over all frames so far."""
        counts = self.pixels.counts
        wrong, right = counts.num_anomalies, counts.num_inliers
        if not wrong + right:
            return ErrorMonitorFigures(*[float("nan")] * 5)
        figures = self.pixels.compute()
        kept, kept_wrong, total = wrong + right, wrong, 0.0
        for part in counts.descending():
            below = kept - np.cumsum(part.anomalies + part.inliers)
            below_wrong = kept_wrong - np.cumsum(part.anomalies)
            total += float(_risks(below, below_wrong, part.anomalies + part.inliers, part.anomalies).sum())
            kept, kept_wrong = int(below[-1]), int(below_wrong[-1])
        none, one = np.array([0]), np.array([right])
        best = _risks(one, none, np.array([wrong]), np.array([wrong])).sum() if wrong else 0.0
        aurc, perfect = total / (wrong + right), float(best) / (wrong + right)
        return ErrorMonitorFigures(wrong / (wrong + right), figures.auroc, figures.fpr95, aurc, aurc - perfect)


def _risks(
    below: NDArray[np.int64], wrong_below: NDArray[np.int64], pixels: NDArray[np.int64], wrong: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The sum of the error rates while the tied pixels of a bin are kept one after the other, as a mean over orders.

    A bin has `pixels` pixels, `wrong` of them wrong. Below it are `below` pixels, `wrong_below` of them wrong.
    With share w = wrong / pixels, the sum over j = 1 ... pixels of (wrong_below + w j) / (below + j) is
    wrong + (wrong_below - w below) (H(below + pixels) - H(below)), with H the harmonic numbers.
    """
    share = wrong / pixels
    return wrong + (wrong_below - share * below) * (_harmonic(below + pixels) - _harmonic(below))


_SMALL = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, _EXACT_BELOW))])


def _harmonic(number: NDArray[np.int64]) -> NDArray[np.float64]:
    """H(n) = 1 + 1/2 + ... + 1/n; above 255 by its asymptotic expansion, with an error below 1e-16."""
    n = np.maximum(number, _EXACT_BELOW).astype(np.float64)
    large = np.log(n) + _EULER + 1 / (2 * n) - 1 / (12 * n**2) + 1 / (120 * n**4)
    return np.where(number < _EXACT_BELOW, _SMALL[np.minimum(number, _EXACT_BELOW - 1)], large)
