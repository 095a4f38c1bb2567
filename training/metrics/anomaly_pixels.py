"""The input of every anomaly metric: a score and a label for each pixel, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError
from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER


class MetricInputError(PerceptionError, ValueError):
    """Scores or labels that no metric can be computed from. The message says what was found."""


def checked(score: NDArray[Any], anomaly: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Score and label of one frame, after the checks.

    Args:
        score: (H, W) floating point, higher where more anomalous, any range.
        anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 left out.

    Raises:
        MetricInputError: two sizes, another dtype, a label that is not 0, 1 or 255, or NaN where a label counts.
    """
    if score.shape != anomaly.shape:
        raise MetricInputError(f"the score is {score.shape}, the labels are {anomaly.shape}; they must have one size")
    if not np.issubdtype(score.dtype, np.floating):
        raise MetricInputError(f"the score is {score.dtype}; it must be floating point")
    if anomaly.dtype != np.uint8:
        raise MetricInputError(f"the labels are {anomaly.dtype}; they must be uint8")
    counts = np.bincount(anomaly.ravel(), minlength=256)
    unknown = [value for value in np.flatnonzero(counts) if value not in (INLIER, ANOMALY, IGNORE)]
    if unknown:
        raise MetricInputError(f"label value(s) {unknown}; anomaly labels are 0 (inlier), 1 (anomaly), 255 (left out)")
    # The sum is NaN if any score is. Infinities of both signs give NaN as well, so the scores are then counted.
    with np.errstate(invalid="ignore"):
        total = score.sum(dtype=np.float64)
    if np.isnan(total):
        broken = int(np.count_nonzero(np.isnan(score[anomaly != IGNORE])))
        if broken:
            raise MetricInputError(
                f"the score is NaN at {broken} of {score.size} pixels; the network's output is broken"
            )
    return score, anomaly


def split(score: NDArray[Any], anomaly: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The scores of anomaly pixels and of inlier pixels, each (n,), after the checks of `checked`.

    >>> score, anomaly = np.array([[0.9, 0.2, 0.4]]), np.array([[1, 0, 255]], np.uint8)
    >>> [values.tolist() for values in split(score, anomaly)]
    [[0.9], [0.2]]
    """
    checked(score, anomaly)
    return score[anomaly == ANOMALY], score[anomaly == INLIER]
