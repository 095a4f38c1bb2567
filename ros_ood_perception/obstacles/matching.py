"""Which region of a frame is which track: by overlap in the picture, or by distance on the ground. Knows no ROS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.regions import Box


def best_pairs(cost: NDArray[np.float64], possible: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs (row, column) of the possible ones, the lowest cost (N, M) first. Each index is in one pair at most.

    Equal costs go to the smaller row, then to the smaller column.
    """
    pairs = np.argwhere(possible)
    pairs = pairs[np.argsort(cost[tuple(pairs.T)], kind="stable")]
    most = min(cost.shape)
    rows: set[int] = set()
    columns: set[int] = set()
    chosen = []
    for row, column in pairs.tolist():
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            chosen.append((row, column))
            if len(chosen) == most:
                break
    return chosen


def matches_in_picture(regions: Sequence[Box], tracks: Sequence[Box], reach: float) -> list[tuple[int, int]]:
    """Pairs (region, track) whose grown boxes overlap, those that overlap most first.

    Args:
        reach: how far a region may move between frames, in widths and heights of its box.
    """
    if not regions or not tracks:
        return []
    overlap = _overlaps(_grown(regions, reach), _grown(tracks, reach))
    return best_pairs(-overlap, overlap > 0)


def _grown(boxes: Sequence[Box], reach: float) -> NDArray[np.float64]:
    """Left, top, right, bottom (N, 4) of boxes grown on each side by `reach` / 2 of their size.

    Half, because both the region's and the track's box grow.
    """
    left, top, width, height = np.array([(b.x, b.y, b.width, b.height) for b in boxes], np.float64).T
    x, y = width * reach / 2, height * reach / 2
    return np.stack([left - x, top - y, left + width + x, top + height + y], axis=1)


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return intersection / (areas[0][:, None] + areas[1][None] - intersection)
