"""Average precision, FPR95 and AUROC over the pooled pixels of all frames, as Fishyscapes measures them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.score_counts import ScoreCounts

RECALL = 0.95
CURVE_POINTS = 400


@dataclass(frozen=True)
class PixelFigures:
    """Fractions; NaN where undefined: all of them without anomaly pixels, FPR95 and AUROC without inlier pixels.

    Attributes:
        ap: average precision, the sum of (R_n - R_n-1) P_n over the distinct scores.
        fpr95: false-positive rate at the first threshold whose true-positive rate is at least 0.95.
        auroc: area under the ROC curve by the trapezoid rule.
    """

    ap: float
    fpr95: float
    auroc: float


@dataclass(frozen=True)
class PixelCurve:
    """Points of the ROC and precision-recall curves, highest threshold first, thinned for drawing.

    threshold, true_positive_rate, false_positive_rate and precision: (n,) float64.
    """

    threshold: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]
    precision: NDArray[np.float64]


@dataclass
class ExactPixelMetrics:
    """Streaming: `update` with each frame, `merge` the metrics of other processes, `compute` at any moment.

    Memory does not grow with the number of frames.

    >>> metric = ExactPixelMetrics()
    >>> metric.update(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 0], [1, 0]], np.uint8))
    >>> figures = metric.compute()
    >>> round(figures.ap, 4), figures.fpr95, figures.auroc
    (0.8333, 0.5, 0.75)
    """

    counts: ScoreCounts = field(default_factory=ScoreCounts)

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) floating point, anomaly (H, W) uint8: 0 inlier, 1 anomaly, 255 left out.

        Raises:
            MetricInputError: sizes that differ, NaN, or another label.
        """
        self.counts.update(score, anomaly)

    def merge(self, other: ExactPixelMetrics) -> None:
        """Add the frames of another process."""
        self.counts.merge(other.counts)

    def compute(self) -> PixelFigures:
        """The figures over all frames so far."""
        positives, negatives = self.counts.num_anomalies, self.counts.num_inliers
        true, false = 0, 0
        ap, area, fpr95 = 0.0, 0.0, float("nan")
        for counts in self.counts.descending():
            tp = true + np.cumsum(counts.anomalies)
            fp = false + np.cumsum(counts.inliers)
            ap += float((counts.anomalies * (tp / (tp + fp))).sum())
            # An inlier counts the anomalies in higher bins, and half of those in its own bin.
            area += float((counts.inliers * (tp - 0.5 * counts.anomalies)).sum())
            if positives and np.isnan(fpr95) and tp[-1] / positives >= RECALL:
                fpr95 = float(fp[np.argmax(tp / positives >= RECALL)])
            true, false = int(tp[-1]), int(fp[-1])
        nan = float("nan")
        return PixelFigures(
            ap=ap / positives if positives else nan,
            fpr95=fpr95 / negatives if positives and negatives else nan,
            auroc=area / (positives * negatives) if positives and negatives else nan,
        )

    def curve(self, points: int = CURVE_POINTS) -> PixelCurve:
        """The curves at about `points` thresholds, spread over true-positive and (logarithmic) false-positive rates."""
        positives, negatives = self.counts.num_anomalies, self.counts.num_inliers
        wanted_tp = np.linspace(0, max(positives, 1), points // 2)
        wanted_fp = np.concatenate([[0], np.geomspace(1, max(negatives, 1), points // 2)])
        true, false = 0, 0
        rows: list[NDArray[np.float64]] = []
        for counts in self.counts.descending():
            tp = true + np.cumsum(counts.anomalies)
            fp = false + np.cumsum(counts.inliers)
            chosen = np.unique(
                np.concatenate(
                    [
                        np.searchsorted(tp, wanted_tp[(wanted_tp > true) & (wanted_tp <= tp[-1])]),
                        np.searchsorted(fp, wanted_fp[(wanted_fp > false) & (wanted_fp <= fp[-1])]),
                    ]
                )
            ).astype(np.int64)
            rows.append(np.stack([counts.threshold[chosen].astype(np.float64), tp[chosen], fp[chosen]]))
            true, false = int(tp[-1]), int(fp[-1])
        threshold, tp, fp = np.concatenate(rows, axis=1) if rows else np.zeros((3, 0))
        return PixelCurve(
            threshold=threshold,
            true_positive_rate=tp / max(positives, 1),
            false_positive_rate=fp / max(negatives, 1),
            precision=tp / np.maximum(tp + fp, 1),
        )
