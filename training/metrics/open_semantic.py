"""Open-set segmentation (open-mIoU): mIoU where unknown objects must be recognised as unknown.

Grcic et al., DenseHybrid, arXiv 2207.02606, section 5. There are two test towns, and the anomaly threshold of each is
chosen on the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY
from training.metrics.anomaly_pixels import MetricInputError, checked
from training.metrics.pixel_exact import RECALL
from training.metrics.score_counts import ScoreCounts


def threshold_at_recall(counts: ScoreCounts, recall: float = RECALL) -> float:
    """The highest threshold with a true-positive rate strictly above `recall`.

    Raises:
        MetricInputError: there is no anomaly pixel.
    """
    if not counts.num_anomalies:
        raise MetricInputError("no anomaly pixel to choose a threshold on")
    true = 0
    for part in counts.descending():
        rate = (true + np.cumsum(part.anomalies)) / counts.num_anomalies
        if rate[-1] > recall:
            return float(part.threshold[np.argmax(rate > recall)])
        true += int(part.anomalies.sum())
    raise AssertionError("all anomaly pixels are above the lowest score")


def half_size(score: NDArray[Any], anomaly: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The input for choosing a threshold: the label of every second pixel, and the score averaged over two by two."""
    height, width = anomaly.shape[0] // 2, anomaly.shape[1] // 2
    return (
        cv2.resize(score.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(anomaly, (width, height), interpolation=cv2.INTER_NEAREST),
    )


class OpenSemanticMetrics:
    """Streaming: `update` with each frame, `merge`, `compute`.

    >>> metric = OpenSemanticMetrics(num_classes=2, threshold=0.5)
    >>> predicted, labels = np.array([[0, 1, 1]], np.uint8), np.array([[0, 1, 255]], np.uint8)
    >>> metric.update(predicted, np.array([[0.1, 0.2, 0.3]]), labels, np.array([[0, 0, 1]], np.uint8))
    >>> metric.iou().tolist()  # the anomaly was missed, a false positive of class 1
    [1.0, 0.5]

    Args:
        num_classes: K known classes; the class K is "anomaly".
        threshold: a pixel with a score strictly above it is predicted as an anomaly, whatever its class.
    """

    def __init__(self, num_classes: int, threshold: float) -> None:
        self.num_classes = num_classes
        self.threshold = threshold
        self.frames = 0
        self.counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def update(
        self,
        predicted: NDArray[np.uint8],
        score: NDArray[Any],
        labels: NDArray[np.uint8],
        anomaly: NDArray[np.uint8],
    ) -> None:
        """Add one frame.

        Args:
            predicted: (H, W) uint8 class ids.
            score: (H, W) floating point.
            labels: (H, W) uint8 true ids, 255 where no class is known.
            anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 left out.

        Raises:
            MetricInputError: sizes that differ, NaN, or another label.
        """
        checked(score, anomaly)
        if not predicted.shape == labels.shape == anomaly.shape:
            raise MetricInputError(
                f"prediction {predicted.shape}, classes {labels.shape}, anomaly labels {anomaly.shape}: sizes differ"
            )
        true = np.where(anomaly == ANOMALY, self.num_classes, labels)
        valid = (true != IGNORE) & ((anomaly != IGNORE) | (labels != IGNORE))
        guess = np.where(score > self.threshold, self.num_classes, predicted)[valid].astype(np.int64)
        size = self.num_classes + 1
        self.counts += np.bincount(true[valid].astype(np.int64) * size + guess, minlength=size * size).reshape(
            size, size
        )
        self.frames += 1

    def merge(self, other: OpenSemanticMetrics) -> None:
        """Add the frames of another process.

        Raises:
            MetricInputError: the other one has another threshold or other classes.
        """
        if (other.num_classes, other.threshold) != (self.num_classes, self.threshold):
            raise MetricInputError("only metrics with the same classes and threshold can be merged")
        self.counts += other.counts
        self.frames += other.frames

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of the known classes: (K,) float64, NaN for a class that does not occur.

        Anomaly pixels predicted as a class are its false positives. Its pixels predicted as anomalies are its false
        negatives.
        """
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        iou = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
        return iou[: self.num_classes]

    def compute(self) -> float:
        """open-mIoU of these frames: the mean over the known classes that occur; NaN without any."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


@dataclass(frozen=True)
class Town:
    """One town's result: its open-mIoU (fraction) and number of frames."""

    open_miou: float
    frames: int


def open_miou(towns: Sequence[Town]) -> float:
    """Mean over the towns, weighted by their numbers of frames.

    >>> open_miou([Town(0.5, frames=3), Town(0.7, frames=1)])
    0.55
    """
    return float(np.average([town.open_miou for town in towns], weights=[town.frames for town in towns]))
