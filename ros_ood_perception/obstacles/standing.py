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
        size_m: side of the upright square that faces the camera at `range_m` and covers as many pixels as the region,
            metres. For something that lies flat it is smaller than its extent on the ground, because the camera sees
            the ground foreshortened.
    """

    ground_points: tuple[tuple[float, float, float], ...]
    range_m: float
    bearing_rad: float
    width_m: float
    size_m: float


def standings(regions: Sequence[Region], ground: GroundProjection) -> list[Standing | None]:
    """Where each region stands; None: all its foot points are above the horizon or beyond the largest range."""
    # All points in one call, and then Python's numbers: with NumPy each call costs more than a region does.
    flat = chain.from_iterable(chain.from_iterable(region.foot_points for region in regions))
    places = ground.place(np.fromiter(flat, np.float64).reshape(-1, 2))
    placed = np.isfinite(places).all(axis=1)
    # Before each point, how many of the points so far could be placed.
    number_before = [0, *np.cumsum(placed).tolist()]
    places = places[placed]
    # A square of side s at the distance d covers about s^2 focal_x focal_y / d^2 pixels.
    square_m, focal_square = ground.height_m**2, ground.camera.focal_x * ground.camera.focal_y
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
                size_m=math.sqrt(region.area * (range_m * range_m + square_m) / focal_square),
            )
        )
    return found


def large_enough(
    regions: Sequence[Region], places: Sequence[Standing | None], min_size_m: float
) -> tuple[tuple[Region, ...], list[Standing | None]]:
    """The regions that are large enough, in their order, and where each stands.

    A region without a place has no size in metres. One whose foot is cut shows only a part of a thing, which may be
    near. Both count at any size.

    Args:
        places: of each region, see `standings`.
        min_size_m: smallest `Standing.size_m`, metres.
    """
    kept = [
        (region, place)
        for region, place in zip(regions, places, strict=True)
        if place is None or region.foot_is_cut or place.size_m >= min_size_m
    ]
    return tuple(region for region, _ in kept), [place for _, place in kept]


def _unwrapped(angles: list[float]) -> list[float]:
    """Angles without jumps of a whole turn; they are there only behind the camera."""
    if max(angles) - min(angles) < math.pi:
        return angles
    unwrapped: list[float] = np.unwrap(angles).tolist()
    return unwrapped
