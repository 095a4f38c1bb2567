"""Anomaly thresholds, chosen on frames without anomalies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle, OperatingPoint
from training.bundles.runner import BundleRunner
from training.data.label_set import IGNORE
from training.data.labelled_frames import INLIER, LabelledFrames
from training.data.progress import tracked
from training.metrics.score_counts import ScoreCounts

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.001)
"""Shares of inlier pixels that reach the threshold. The first one is the node's default."""

LEVELS = 8192
REPLICATES = 1000
INTERVAL = (0.025, 0.975)


@dataclass
class InlierScores:
    """Scores of inlier pixels: pooled exactly, and coarsely by frame for the bootstrap."""

    pooled: ScoreCounts = field(default_factory=ScoreCounts)
    by_frame: list[NDArray[np.int64]] = field(default_factory=list)

    def update(self, score: NDArray[np.float32], counted: NDArray[np.bool_]) -> None:
        """Add one frame: score (H, W) float32 in [0, 1], and the mask of counted pixels (H, W) bool."""
        self.pooled.update(score, np.where(counted, np.uint8(INLIER), np.uint8(IGNORE)))
        levels = np.minimum((score[counted].astype(np.float64) * LEVELS).astype(np.int64), LEVELS - 1)
        self.by_frame.append(np.bincount(levels, minlength=LEVELS))

    def threshold(self, rate: float) -> tuple[float, float]:
        """The lowest threshold that at most `rate` of the pixels reach, and the share that reaches it.

        If more pixels than `rate` share the highest score, the threshold is 1.
        """
        best = (1.0, 0.0)
        above = 0
        for part in self.pooled.descending():
            reached = above + np.cumsum(part.inliers)
            within = np.flatnonzero(reached <= rate * self.pooled.num_inliers)
            if within.size:
                best = (float(part.threshold[within[-1]]), float(reached[within[-1]] / self.pooled.num_inliers))
            elif part.threshold[0] >= 1:
                best = (1.0, float(reached[0] / self.pooled.num_inliers))
            if within.size < reached.size:
                break
            above = int(reached[-1])
        return best

    def bootstrap(self, rate: float, threshold: float) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """95 % intervals of the threshold for `rate`, and of the rate at `threshold`, by bootstrap over frames.

        None with fewer than two frames, from which no spread can be estimated.
        """
        if len(self.by_frame) < 2:
            return None, None
        frames = np.stack(self.by_frame)
        # above[f, i]: number of pixels of frame f with a score of at least i / LEVELS.
        above = frames[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
        draws = np.random.default_rng(0).multinomial(len(frames), np.full(len(frames), 1 / len(frames)), REPLICATES)
        resampled = draws @ above
        share = resampled / np.maximum(resampled[:, :1], 1)
        reached = share <= rate
        levels = np.where(reached.any(axis=1), np.argmax(reached, axis=1), LEVELS)
        # Both intervals are rounded outwards to whole levels.
        level = min(int(threshold * LEVELS), LEVELS - 1)
        above_level = share[:, level + 1] if level + 1 < LEVELS else np.zeros(REPLICATES)
        low, high = INTERVAL
        lowest, highest = float(np.quantile(np.maximum(levels - 1, 0), low)), float(np.quantile(levels, high))
        return (
            # All thresholds between two neighbouring scores are equivalent; `threshold` is the upper score.
            (min(lowest / LEVELS, threshold), max(highest / LEVELS, threshold)),
            (float(np.quantile(above_level, low)), float(np.quantile(share[:, level], high))),
        )


def inlier_operating_points(
    frames: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]], data: str, drivable: Sequence[int] = ()
) -> tuple[OperatingPoint, ...]:
    """Thresholds that `FALSE_POSITIVE_RATES` of the inlier pixels reach.

    Args:
        frames: score (H, W) float32 in [0, 1] and labels (H, W) uint8 of each frame. Every labelled pixel has a known
            class; pixels labelled 255 are ignored.
        data: description of the frames, for the record.
        drivable: class ids; further thresholds are chosen on their pixels only.

    Raises:
        ValueError: no labelled pixel.
    """
    everywhere, on_drivable = InlierScores(), InlierScores()
    for score, labels in frames:
        everywhere.update(score, labels != IGNORE)
        if drivable:
            on_drivable.update(score, np.isin(labels, drivable))
    if not everywhere.pooled.num_inliers:
        raise ValueError(f"{data}: no labelled pixel to choose a threshold on")
    points = []
    for prefix, what, scores in (("inlier", "inlier pixels", everywhere), ("drivable", "drivable pixels", on_drivable)):
        if not scores.pooled.num_inliers:
            continue
        for rate in FALSE_POSITIVE_RATES:
            threshold, reached = scores.threshold(rate)
            threshold_interval, rate_interval = scores.bootstrap(rate, threshold)
            points.append(
                OperatingPoint(
                    name=f"{prefix}_fpr_{rate:g}",
                    threshold=threshold,
                    chosen_by=f"the lowest threshold that at most {rate:.1%} of the {what} reach",
                    data=data,
                    false_positive_rate=reached,
                    threshold_interval=threshold_interval,
                    false_positive_rate_interval=rate_interval,
                )
            )
    return tuple(points)


def measured_operating_points(bundle: Bundle, frames: LabelledFrames, data: str) -> tuple[OperatingPoint, ...]:
    """Thresholds of the bundle's score, computed as in the node and at the frames' own size.

    Those on drivable ground are chosen on the classes that the bundle marks.

    Raises:
        ValueError: no labelled pixel.
    """
    runner = BundleRunner(bundle, "onnxruntime")

    def scored() -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        for frame in tracked(frames, "thresholds"):
            yield runner.perceive(frame.image).anomaly_score, frame.labels

    points = inlier_operating_points(scored(), data, bundle.description.drivable_ids)
    runner.close()
    return points
