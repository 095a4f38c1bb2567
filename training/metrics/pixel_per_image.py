"""The protocol of StreetHazards (Hendrycks et al., arXiv 1911.11132): the mean of the figures of single images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.anomaly_pixels import split
from training.metrics.pixel_exact import RECALL, PixelFigures


def pixel_figures(positives: NDArray[Any], negatives: NDArray[Any]) -> PixelFigures:
    """AP, FPR95 and AUROC of one image.

    FPR95 is taken where the recall is closest to 0.95, above or below. Of several such thresholds it is the lowest one
    that the authors' code considers (https://github.com/hendrycks/anomaly-seg, `anom_utils.py`). That is the one with
    the most false positives, but none below the first threshold that finds all anomaly pixels.

    >>> figures = pixel_figures(np.array([0.9, 0.7]), np.array([0.8, 0.1]))
    >>> round(figures.ap, 4), figures.fpr95, figures.auroc
    (0.8333, 0.5, 0.75)

    Args:
        positives, negatives: (n,) floating point scores, n >= 1 each.
    """
    scores = np.concatenate([positives, negatives])
    order = np.argsort(scores)[::-1]
    is_positive = order < positives.size
    descending = scores[order]
    distinct = np.append(descending[:-1] != descending[1:], True)
    tp = np.cumsum(is_positive)[distinct].astype(np.float64)
    fp = np.flatnonzero(distinct) + 1 - tp
    steps = np.diff(tp, prepend=0)
    tpr, fpr = tp / positives.size, fp / negatives.size
    upwards = slice(int(np.searchsorted(tp, positives.size)), None, -1)
    return PixelFigures(
        ap=float((steps * tp / (tp + fp)).sum() / positives.size),
        fpr95=float(fpr[upwards][np.argmin(np.abs(tpr[upwards] - RECALL))]),
        auroc=float((np.diff(fpr, prepend=0) * (tpr - 0.5 * steps / positives.size)).sum()),
    )


@dataclass
class PerImagePixelMetrics:
    """Streaming: `update` with each frame, `merge`, `compute`. Keeps three numbers for each frame.

    Frames without anomaly pixels or without inlier pixels are ignored.
    """

    figures: list[PixelFigures] = field(default_factory=list)

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) floating point, anomaly (H, W) uint8 0, 1 or 255.

        Raises:
            MetricInputError: sizes that differ, NaN, or another label.
        """
        positives, negatives = split(score, anomaly)
        if positives.size and negatives.size:
            self.figures.append(pixel_figures(positives, negatives))

    def merge(self, other: PerImagePixelMetrics) -> None:
        """Add the frames of another process."""
        self.figures += other.figures

    def compute(self) -> PixelFigures:
        """The means over the frames that count; NaN without any."""
        if not self.figures:
            return PixelFigures(float("nan"), float("nan"), float("nan"))
        ap, fpr95, auroc = np.mean([(f.ap, f.fpr95, f.auroc) for f in self.figures], axis=0).tolist()
        return PixelFigures(ap, fpr95, auroc)
