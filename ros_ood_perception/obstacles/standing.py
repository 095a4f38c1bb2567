"""Where a region stands on the ground: its foot points placed, its range and its width. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.regions import Region


class Standing(NamedTuple):
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
    # All points of all regions in each call: with NumPy a call costs more than a region does.
    counts = [len(region.foot_points) for region in regions]
    flat = chain.from_iterable(chain.from_iterable(region.foot_points for region in regions))
    places = ground.place(np.fromiter(flat, np.float64, 2 * sum(counts)).reshape(-1, 2))
    placed = np.isfinite(places[:, 0])
    places, region_of = places[placed], np.repeat(np.arange(len(regions)), counts)[placed]
    found: list[Standing | None] = [None] * len(regions)
    if not len(places):
        return found
    number = np.bincount(region_of, minlength=len(regions))
    standing = number.nonzero()[0]
    number = number[standing]
    end = np.cumsum(number)
    begin = end - number
    directions, angles = _unwrapped(ground.bearing_rad(places), begin, end)
    # It adds one point after the other, unlike `reduceat`, and alike in every version of Python, unlike `sum`.
    bearings = np.bincount(region_of, directions)[standing] / number
    ranges = np.minimum.reduceat(ground.range_m(places), begin)
    x, y, _ = places.T
    points = zip(x.tolist(), y.tolist(), repeat(float(ground.ground_z_m)))
    # A square of side s at the distance d covers about s^2 focal_x focal_y / d^2 pixels.
    areas = np.array([region.area for region in regions])[standing]
    sizes = np.sqrt(areas * (ranges * ranges + ground.height_m**2) / (ground.camera.focal_x * ground.camera.focal_y))
    columns = (column.tolist() for column in (standing, number, ranges, bearings, ranges * angles, sizes))
    for at, number_of_points, *measured in zip(*columns, strict=True):
        found[at] = Standing(tuple(islice(points, number_of_points)), *measured)
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


def _unwrapped(
    directions: NDArray[np.float64], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions (N,) without jumps of a whole turn within a region, and the angle (M,) over which each region spreads.

    There are such jumps only behind the camera.
    """
    angles = np.maximum.reduceat(directions, begin) - np.minimum.reduceat(directions, begin)
    for region in (angles >= math.pi).nonzero()[0]:
        part = np.unwrap(directions[begin[region] : end[region]])
        directions[begin[region] : end[region]] = part
        angles[region] = part.max() - part.min()
    return directions, angles
