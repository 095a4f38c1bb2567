"""Which region of a frame is which track: by overlap in the picture, or by distance on the ground. Knows no ROS."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.regions import Box


def best_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], cost: NDArray[np.float64]
) -> tuple[list[int], list[int]]:
    """Rows and columns of the pairs of the lowest cost. Each index is in one pair at most.

    Args:
        rows, columns: (K,) of the possible pairs.
        cost: (K,) of each. Equal costs go to the pair that comes first.
    """
    order = np.argsort(cost, kind="stable")
    column_of: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in column_of and column not in taken:
            column_of[row] = column
            taken.add(column)
    return list(column_of), list(column_of.values())


def matches_in_picture(
    regions: NDArray[np.int64], tracks: NDArray[np.int64], reach: float
) -> tuple[list[int], list[int]]:
    """Regions and tracks whose grown boxes overlap, those that overlap most first. Each is in one pair at most.

    Args:
        regions, tracks: (N, 4), (M, 4) boxes, see `sides`.
        reach: how far a region may move between frames, in widths and heights of its box.
    """
    if not len(regions) or not len(tracks):
        return [], []
    first, second = edges(regions, reach), edges(tracks, reach)
    left, top = np.maximum(first[:2, :, None], second[:2, None])
    right, bottom = np.minimum(first[2:, :, None], second[2:, None])
    rows, columns = pairs = ((right > left) & (bottom > top)).nonzero()
    intersection = (right[pairs] - left[pairs]) * (bottom[pairs] - top[pairs])
    areas, areas_of_tracks = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    union = areas[rows] + areas_of_tracks[columns] - intersection
    return best_pairs(rows, columns, -intersection / union)


def sides(boxes: Iterable[Box]) -> NDArray[np.int64]:
    """Left, top, width, height (N, 4) of boxes, pixels."""
    return np.fromiter(chain.from_iterable(map(attrgetter("x", "y", "width", "height"), boxes)), np.int64).reshape(
        -1, 4
    )


def edges(boxes: NDArray[np.int64], reach: float = 0.0) -> NDArray[np.float64]:
    """Left, top, right, bottom (4, N) of boxes (N, 4), see `sides`, grown on each side by `reach` / 2 of their size.

    Half, because both the region's and the track's box grow.
    """
    left, top, width, height = boxes.T
    x, y = width * reach / 2, height * reach / 2
    return np.array([left - x, top - y, left + width + x, top + height + y])
