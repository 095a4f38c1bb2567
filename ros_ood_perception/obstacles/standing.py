"""Where a region stands on the ground: its foot points placed, its range and its width. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    places = ground.place([point for region in regions for point in region.foot_points])
    ranges, bearings = ground.range_m(places).tolist(), ground.bearing_rad(places).tolist()
    points: list[tuple[float, float, float]] = list(map(tuple, places.tolist()))
    found: list[Standing | None] = []
    begin = 0
    for region in regions:
        end = begin + len(region.foot_points)
        seen = slice(begin, end)
        begin = end
        feet = (ranges[seen], bearings[seen], points[seen])
        if not math.isfinite(sum(feet[0])):
            feet = _finite(*feet)
        if not feet[0]:
            found.append(None)
            continue
        range_m, directions = min(feet[0]), _unwrapped(feet[1])
        found.append(
            Standing(
                ground_points=tuple(feet[2]),
                range_m=range_m,
                bearing_rad=sum(directions) / len(directions),
                width_m=range_m * (max(directions) - min(directions)),
            )
        )
    return found


Feet = tuple[list[float], list[float], list[tuple[float, float, float]]]
"""Ranges, bearings and places of foot points."""


def _finite(ranges: list[float], bearings: list[float], points: list[tuple[float, float, float]]) -> Feet:
    """Those that could be placed."""
    at = [number for number, range_m in enumerate(ranges) if math.isfinite(range_m)]
    return [ranges[n] for n in at], [bearings[n] for n in at], [points[n] for n in at]


def _unwrapped(angles: list[float]) -> list[float]:
    """Angles without jumps of a whole turn; they are there only behind the camera."""
    if max(angles) - min(angles) < math.pi:
        return angles
    unwrapped: list[float] = np.unwrap(angles).tolist()
    return unwrapped
