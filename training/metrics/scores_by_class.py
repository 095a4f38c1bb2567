"""Anomaly scores by true class: which classes score high, and which cause the false alarms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.labelled_frames import ANOMALY, INLIER
from training.metrics.anomaly_pixels import MetricInputError

BINS = 2048
RECALL = 0.95


class ScoresByClass:
    """Streaming: `update` with each frame. Scores fall into `BINS` equal bins of [0, 1]; figures are exact to one bin.

    >>> metric = ScoresByClass(2)
    >>> labels, inliers = np.array([[0, 0, 1]], np.uint8), np.zeros((1, 3), np.uint8)
    >>> metric.update(np.array([[0.1, 0.6, 0.9]], np.float32), labels, inliers)
    >>> metric.marked(0.5).tolist()
    [0.5, 1.0]

    Args:
        num_classes: ids are 0 to `num_classes` - 1.
    """

    def __init__(self, num_classes: int) -> None:
        self.inliers = np.zeros((num_classes, BINS), np.int64)
        self.anomalies = np.zeros(BINS, np.int64)

    def update(self, score: NDArray[np.float32], labels: NDArray[np.uint8], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame.

        Args:
            score: (H, W) float32 in [0, 1].
            labels: (H, W) uint8 true ids, 255 where no class is known.
            anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 left out.

        Raises:
            MetricInputError: sizes that differ.
        """
        if not score.shape == labels.shape == anomaly.shape:
            raise MetricInputError(
                f"scores {score.shape}, labels {labels.shape} and anomalies {anomaly.shape} differ in size"
            )
        classes = len(self.inliers)
        bins = np.minimum((score * BINS).astype(np.int64), BINS - 1)
        known = (anomaly == INLIER) & (labels < classes)
        places = labels[known].astype(np.int64) * BINS + bins[known]
        self.inliers += np.bincount(places, minlength=classes * BINS).reshape(classes, BINS)
        self.anomalies += np.bincount(bins[anomaly == ANOMALY], minlength=BINS)

    def medians(self) -> NDArray[np.float64]:
        """(num_classes + 1,) median of each class, and last that of the anomalies; NaN without pixels."""
        counts = np.vstack([self.inliers, self.anomalies]).cumsum(axis=1)
        middle = (counts >= counts[:, -1:] / 2).argmax(axis=1)
        return np.where(counts[:, -1] > 0, (middle + 0.5) / BINS, np.nan)

    def marked(self, threshold: float) -> NDArray[np.float64]:
        """(num_classes,) share of each class's pixels with a score of at least `threshold`; NaN without pixels."""
        return self._from(round(threshold * BINS))

    def marked_at_recall(self) -> NDArray[np.float64]:
        """(num_classes,) share of each class's pixels at the highest threshold that marks `RECALL` of the anomalies."""
        if not self.anomalies.any():
            return np.full(len(self.inliers), np.nan)
        found = self.anomalies[::-1].cumsum()[::-1]
        return self._from(int(np.flatnonzero(found >= RECALL * found[0])[-1]))

    def _from(self, first: int) -> NDArray[np.float64]:
        pixels = self.inliers.sum(axis=1)
        return np.where(pixels > 0, self.inliers[:, first:].sum(axis=1) / np.maximum(pixels, 1), np.nan)
