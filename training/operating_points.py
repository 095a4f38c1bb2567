"""Anomaly thresholds from what the score does on frames without anomalies."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle import OperatingPoint
from training.data.label_set import IGNORE

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.001)
"""Shares of inlier pixels above the threshold; the first is what a node takes unless told otherwise."""

RESOLUTION = 1 << 20


def inlier_operating_points(
    frames: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]], data: str
) -> tuple[OperatingPoint, ...]:
    """Thresholds that `FALSE_POSITIVE_RATES` of the inlier pixels reach.

    Args:
        frames: score (H, W) float32 in [0, 1] and labels (H, W) uint8 of frames in which every labelled pixel is of a
            known class; pixels labelled 255 are left out.
        data: what the frames are, for the record.

    Raises:
        ValueError: no labelled pixel.
    """
    counts = np.zeros(RESOLUTION + 1, np.int64)
    for score, labels in frames:
        levels = np.minimum(score[labels != IGNORE].astype(np.float64) * RESOLUTION, RESOLUTION).astype(np.int64)
        counts += np.bincount(levels, minlength=RESOLUTION + 1)
    total = int(counts.sum())
    if not total:
        raise ValueError(f"{data}: no labelled pixel to choose a threshold on")
    # at_or_above[i]: pixels whose score is at least i / RESOLUTION.
    at_or_above = counts[::-1].cumsum()[::-1]
    points = []
    for rate in FALSE_POSITIVE_RATES:
        level = int(np.argmax(at_or_above <= rate * total)) if at_or_above[-1] <= rate * total else RESOLUTION
        points.append(
            OperatingPoint(
                name=f"inlier_fpr_{rate:g}",
                threshold=level / RESOLUTION,
                chosen_by=f"the lowest threshold that at most {rate:.1%} of the inlier pixels reach",
                data=data,
                false_positive_rate=float(at_or_above[level] / total),
            )
        )
    return tuple(points)
