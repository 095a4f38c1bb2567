"""Component metrics of SegmentMeIfYouCan (Chan et al., arXiv 2104.14812, section 4): which objects are found?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY
from training.metrics.anomaly_pixels import checked

TAUS = np.linspace(0.25, 0.75, 11)


@dataclass(frozen=True)
class ComponentSizes:
    """Components below these sizes do not count.

    Attributes:
        predicted: smaller predicted components are erased, pixels.
        true: smaller ground-truth components become void, pixels.
    """

    predicted: int
    true: int


ANOMALY_TRACK = ComponentSizes(predicted=500, true=100)
OBSTACLE_TRACK = ComponentSizes(predicted=50, true=10)
"""ObstacleTrack and LostAndFound: their objects are small."""


@dataclass(frozen=True)
class ComponentFigures:
    """Fractions; NaN where undefined (no such component).

    Attributes:
        siou: adjusted intersection over union, a mean over the ground-truth components.
        ppv: share that lies on ground truth, a mean over the predicted components.
        mean_f1: F1 over all components, averaged over the thresholds 0.25, 0.30, ..., 0.75 on sIoU and PPV.
        true_components, predicted_components: their numbers.
    """

    siou: float
    ppv: float
    mean_f1: float
    true_components: int
    predicted_components: int


@dataclass
class SmiycComponentMetrics:
    """Streaming: `update` with each frame, `merge`, `compute`. Keeps one number for each component.

    >>> score = np.zeros((20, 20), np.float32)
    >>> score[5:15, 5:15] = 0.9
    >>> anomaly = (score > 0).astype(np.uint8)
    >>> metric = SmiycComponentMetrics(0.5, ComponentSizes(predicted=10, true=10))
    >>> metric.update(score, anomaly)
    >>> metric.compute()
    ComponentFigures(siou=1.0, ppv=1.0, mean_f1=1.0, true_components=1, predicted_components=1)

    Args:
        threshold: a pixel with a score strictly above it is predicted anomalous. The benchmark takes the best-F1
            threshold of the pixel metrics.
        sizes: components below them are ignored.
    """

    threshold: float
    sizes: ComponentSizes
    siou: list[float] = field(default_factory=list)
    ppv: list[float] = field(default_factory=list)

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) floating point, anomaly (H, W) uint8 0, 1 or 255.

        Raises:
            MetricInputError: sizes that differ, NaN, or another label.
        """
        checked(score, anomaly)
        # Void pixels are cleared before components are formed; ground truth that is too small is cleared after.
        # The benchmark compares in the type of the score, which is float16, whatever the type of its thresholds.
        predicted = _components((score > score.dtype.type(self.threshold)) & (anomaly != IGNORE))
        predicted = _without(predicted, np.bincount(predicted.ravel()) < self.sizes.predicted)
        true = _components(anomaly == ANOMALY)
        too_small = np.bincount(true.ravel()) < self.sizes.true
        too_small[0] = False
        counted = (anomaly != IGNORE) & ~too_small[true]
        true, predicted = true[counted], predicted[counted]
        # table[g, k]: pixels of ground-truth component g (0: none) on predicted component k (0: none).
        width = int(predicted.max(initial=0)) + 1
        height = int(true.max(initial=0)) + 1
        table = np.bincount(true * width + predicted, minlength=height * width).reshape(height, width)
        true_sizes, predicted_sizes = table.sum(1), table.sum(0)
        for g in range(1, height):
            if not true_sizes[g]:
                continue
            hits = np.flatnonzero(table[g, 1:]) + 1
            intersection = int(table[g, hits].sum())
            elsewhere = int(table[1:, hits].sum()) - intersection
            union = int(predicted_sizes[hits].sum()) + int(true_sizes[g]) - intersection - elsewhere
            self.siou.append(intersection / union)
        for k in range(1, width):
            if predicted_sizes[k]:
                self.ppv.append(int(table[1:, k].sum()) / int(predicted_sizes[k]))

    def merge(self, other: SmiycComponentMetrics) -> None:
        """Add the frames of another process."""
        self.siou += other.siou
        self.ppv += other.ppv

    def compute(self) -> ComponentFigures:
        """The figures over all components so far."""
        siou, ppv = np.array(self.siou), np.array(self.ppv)
        scores = []
        for tau in TAUS:
            tp = int((siou >= tau).sum())
            wrong = int((siou < tau).sum()) + int((ppv < tau).sum())
            scores.append(2 * tp / (2 * tp + wrong) if tp + wrong else float("nan"))
        return ComponentFigures(
            siou=float(siou.mean()) if siou.size else float("nan"),
            ppv=float(ppv.mean()) if ppv.size else float("nan"),
            mean_f1=float(np.mean(scores)) if siou.size else float("nan"),
            true_components=siou.size,
            predicted_components=ppv.size,
        )


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """8-connected components: (H, W) int64, 0 where there is none, then 1, 2, ..."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1].astype(np.int64)


def _without(components: NDArray[np.int64], erased: NDArray[np.bool_]) -> NDArray[np.int64]:
    number = np.where(erased, 0, np.arange(erased.size))
    return number[components]
