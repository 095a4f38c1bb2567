"""The points of `sensor_msgs/PointCloud2` for obstacles and free ground, as Nav2's obstacle layers and RViz read them.

Knows no ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.tracks import Obstacle

SPACING_M = 0.1
"""Largest distance of two neighbouring points of an obstacle. A line of lethal cells then has no gap for a planner."""

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("id", "<u4")])
"""One point: place in metres, anomaly score, id of the obstacle (0 for free ground). Little-endian, no gaps."""


@dataclass(frozen=True)
class PointField:
    """`sensor_msgs/PointField`: each field of `POINT`, count 1."""

    name: str
    offset: int
    datatype: int


POINT_FIELDS = tuple(
    # UINT32 is 6, FLOAT32 is 7.
    PointField(name, POINT.fields[name][1], 6 if name == "id" else 7)
    for name in POINT.names or ()
    if POINT.fields is not None
)


def obstacle_points(obstacles: Sequence[Obstacle], height_m: float) -> NDArray[np.void]:
    """(N,) `POINT`: the line on which each obstacle stands, a point every `SPACING_M`.

    Args:
        height_m: height of the points over the ground. It must be above a layer's `min_obstacle_height`, below which
            lies the ground itself when the vehicle pitches a little.
    """
    return _joined(
        [
            _points(_dense(np.array(o.ground_points)), height_m, o.region.score, o.id)
            for o in obstacles
            if o.ground_points
        ]
    )


def free_points(places: NDArray[np.float64], height_m: float) -> NDArray[np.void]:
    """(N,) `POINT` of the places (N, 3) up to which the ground is free."""
    return _joined([_points(places, height_m, 0.0, 0)])


def _points(places: NDArray[np.float64], height_m: float, score: float, number: int) -> NDArray[np.void]:
    points = np.zeros(len(places), POINT)
    points["x"], points["y"], points["z"] = places[:, 0], places[:, 1], places[:, 2] + height_m
    # 0 stands for free ground, also where ids start again after the largest number.
    points["intensity"], points["id"] = score, (number - 1) % (2**32 - 1) + 1 if number else 0
    return points


def _joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    return np.concatenate([np.zeros(0, POINT), *parts])


def _dense(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) on the line through (M, 3), its corners included, at most `SPACING_M` apart."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    steps = [
        np.linspace(begin, end, int(np.ceil(length / SPACING_M)), endpoint=False)
        for begin, end, length in zip(along[:-1], along[1:], lengths, strict=True)
        if length > 0
    ]
    places = np.concatenate([*steps, along[-1:]])
    return np.stack([np.interp(places, along, line[:, axis]) for axis in range(3)], axis=1)
