"""Greedy k-centre: a few frames out of many, none like another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_DISTANCE = 1e-3
"""Cosine distance of embeddings below which a frame is a copy, such as of a recording that is there twice."""


def spread(
    embeddings: NDArray[np.float32],
    worth: NDArray[np.float64],
    sequences: Sequence[object],
    times_ns: NDArray[np.int64],
    count: int,
    apart_ns: int,
) -> list[int]:
    """Choose frames by greedy k-centre (Gonzalez 1985, https://doi.org/10.1016/0304-3975(85)90224-5).

    The first is the one with most worth. Each further one is that with the largest product of its worth and its
    distance from the nearest one that is chosen. The distance is 1 less the cosine of two embeddings. With equal worth
    it is plain k-centre, whose largest distance of a frame to a chosen one is at most twice the smallest possible.

    Args:
        embeddings: (N, D), one a frame, of any length but not 0.
        worth: (N,) above 0.
        sequences: for each frame, the camera of the recording that it is from.
        times_ns: (N,), within its recording.
        count: of frames to choose.
        apart_ns: frames of one sequence that are nearer than this are not chosen together.

    Returns:
        Indices in the order in which they were chosen. Fewer than `count` if no other frame is allowed.

    >>> places = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)
    >>> spread(places, np.ones(3), ["a", "b", "c"], np.zeros(3, np.int64), 2, 0)
    [0, 2]
    """
    total = len(worth)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    _, numbers = np.unique(np.array([repr(name) for name in sequences]), return_inverse=True)
    distance = np.full(total, np.inf)
    allowed = np.ones(total, np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(count, total):
        gain = worth * np.minimum(distance, 2.0)
        gain[~allowed | (distance < LEAST_DISTANCE)] = -1.0
        best = int(np.argmax(gain))
        if gain[best] < 0:
            break
        chosen.append(best)
        np.minimum(distance, 1.0 - units @ units[best], out=distance)
        near = (numbers == numbers[best]) & (np.abs(times_ns - times_ns[best]) < apart_ns)
        allowed[near] = False
        allowed[best] = False
    return chosen
