"""Pixel metrics as SegmentMeIfYouCan computes them (Chan et al., arXiv 2104.14812), with score bins for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.anomaly_pixels import MetricInputError, split
from training.metrics.pixel_exact import RECALL

QUANTILES = 384
"""Bin edges from the anomaly pixels of a frame, and as many from its inlier pixels."""


@dataclass(frozen=True)
class SmiycPixelFigures:
    """Fractions; NaN where undefined (without anomaly pixels; without inlier pixels: FPR95 and AUROC).

    Attributes:
        best_f1: largest F1 over the thresholds.
        threshold: the score that gives it; component metrics use it.
    """

    ap: float
    fpr95: float
    auroc: float
    best_f1: float
    threshold: float


class SmiycPixelMetrics:
    """Streaming: `update` with each frame, `merge` the metrics of other processes, `compute` at any moment.

    Keeps at most 769 thresholds for each frame (18 kB), as the benchmark's own code does.

    >>> metric = SmiycPixelMetrics()
    >>> metric.update(np.array([[0.9, 0.8, 0.1]]), np.array([[1, 1, 0]], np.uint8))
    >>> figures = metric.compute()
    >>> round(figures.ap, 4), figures.fpr95, figures.best_f1
    (1.0, 0.0, 1.0)
    """

    def __init__(self) -> None:
        self._bins: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []

    def update(self, score: NDArray[Any], anomaly: NDArray[np.uint8]) -> None:
        """Add one frame: score (H, W) floating point (float16 in the benchmark), anomaly (H, W) uint8 0, 1 or 255.

        Raises:
            MetricInputError: sizes that differ, NaN, another label, or scores that float16 cannot hold.
        """
        with np.errstate(over="ignore"):
            positives, negatives = (scores.astype(np.float16) for scores in split(score, anomaly))
        if not positives.size and not negatives.size:
            return
        kinds = [scores for scores in (positives, negatives) if scores.size]
        lowest, highest = min(scores.min() for scores in kinds), max(scores.max() for scores in kinds)
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            raise MetricInputError(f"scores from {lowest} to {highest} in float16; they must be finite there")
        # In float64: above 32, a margin of 0.01 is lost in float16, and with it the last bin.
        margin = max((float(highest) - float(lowest)) * 0.01, 0.01)
        edges = [np.array([float(lowest) - margin, float(highest) + margin])]
        edges += [np.quantile(scores, np.linspace(0, 1, min(QUANTILES, scores.size))) for scores in kinds]
        bins = np.unique(np.concatenate(edges))
        # NumPy's histogram closes its last bin on the right; no score reaches that edge.
        true, false = (np.histogram(scores, bins)[0] for scores in (positives, negatives))
        self._bins.append((bins[:-1].astype(np.float64), true, false))

    def merge(self, other: SmiycPixelMetrics) -> None:
        """Add the frames of another process."""
        self._bins += other._bins

    def compute(self) -> SmiycPixelFigures:
        """The figures over all frames so far."""
        nan = float("nan")
        undefined = SmiycPixelFigures(nan, nan, nan, nan, nan)
        if not self._bins:
            return undefined
        threshold, true, false = (np.concatenate(parts) for parts in zip(*self._bins, strict=True))
        positives, negatives = int(true.sum()), int(false.sum())
        if not positives:
            return undefined
        order = np.argsort(threshold)[::-1]
        threshold = threshold[order]
        tp, fp = np.cumsum(true[order]).astype(np.float64), np.cumsum(false[order]).astype(np.float64)
        # Of equal thresholds the last point counts: all their pixels are added there.
        last = np.append(threshold[:-1] != threshold[1:], True)
        threshold, tp, fp = threshold[last], tp[last], fp[last]
        if tp[0] or fp[0]:
            threshold = np.append(threshold[0] + 1, threshold)
            tp, fp = np.append(0.0, tp), np.append(0.0, fp)
        predicted = tp + fp
        precision = np.divide(tp, predicted, out=np.ones_like(tp), where=predicted > 0)
        tpr = tp / positives
        fpr = fp / negatives if negatives else np.full_like(fp, nan)
        f1 = 2 * tp / (tp + fp + positives)
        best = int(np.argmax(f1))
        return SmiycPixelFigures(
            ap=float((np.diff(tpr) * precision[1:]).sum()),
            fpr95=float(fpr[np.searchsorted(tpr, RECALL)]),
            auroc=float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum()),
            best_f1=float(f1[best]),
            threshold=float(threshold[best]),
        )
