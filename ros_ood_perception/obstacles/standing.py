"""Where a region stands on the ground: its foot points placed, its range and its width. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.regions import Region


@dataclass(frozen=True)
class Standing:
    """The foot of a region on the ground, in the vehicle's frame.

    Attributes:
        ground_points: x, y, z, metres, of the foot points that could be placed, left to right; at least one.
        range_m: distance of the nearest ground point from the point below the camera.
        bearing_rad: mean direction of the ground points from there: 0 ahead, positive to the left.
        width_m: width across the line of sight, at `range_m`.
    """

    ground_points: tuple[tuple[float, float, float], ...]
    range_m: float
    bearing_rad: float
    width_m: float


def standings(regions: Sequence[Region], ground: GroundProjection) -> list[Standing | None]:
    """Where each region stands; None: all its foot points are above the horizon or beyond the largest range."""
    # All points in one call, and then Python's numbers: with NumPy each call costs more than a region does.
    flat = chain.from_iterable(chain.from_iterable(region.foot_points for region in regions))
    places = ground.place(np.fromiter(flat, np.float64).reshape(-1, 2))
    placed = np.isfinite(places).all(axis=1)
    # Before each point, how many of the points so far could be placed.
    number_before = [0, *np.cumsum(placed).tolist()]
    places = places[placed]
    ranges, bearings = ground.range_m(places).tolist(), ground.bearing_rad(places).tolist()
    points: list[tuple[float, float, float]] = list(map(tuple, places.tolist()))
    found: list[Standing | None] = []
    end = 0
    for region in regions:
        begin, end = end, end + len(region.foot_points)
        first, last = number_before[begin], number_before[end]
        if first == last:
            found.append(None)
            continue
        range_m, directions = min(ranges[first:last]), _unwrapped(bearings[first:last])
        found.append(
            Standing(
                ground_points=tuple(points[first:last]),
                range_m=range_m,
                bearing_rad=sum(directions) / len(directions),
                width_m=range_m * (max(directions) - min(directions)),
            )
        )
    return found


def _unwrapped(angles: list[float]) -> list[float]:
    """Angles without jumps of a whole turn; they are there only behind the camera."""
    if max(angles) - min(angles) < math.pi:
        return angles
    unwrapped: list[float] = np.unwrap(angles).tolist()
    return unwrapped
