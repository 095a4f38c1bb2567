"""Where a region stands on the ground: its foot points placed, its range and its width. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.regions import Region


@dataclass(frozen=True)
class Standings:
    """The feet of N regions on the ground, in the vehicle's frame.

    Attributes:
        ground_points: of each region x, y, z, metres, of the foot points that could be placed, left to right; empty
            where all of them are above the horizon or beyond the largest range.
        range_m: (N,) distance of the nearest ground point from the point below the camera; NaN: there is none.
        bearing_rad: (N,) mean direction of the ground points from there: 0 ahead, positive to the left; NaN: none.
        width_m: (N,) width across the line of sight, at `range_m`; NaN: none.
        size_m: (N,) side of the upright square that faces the camera at `range_m` and covers as many pixels as the
            region, metres; NaN: none. For something that lies flat it is smaller than its extent on the ground, because
            the camera sees the ground foreshortened.
    """

    ground_points: list[tuple[tuple[float, float, float], ...]]
    range_m: NDArray[np.float64]
    bearing_rad: NDArray[np.float64]
    width_m: NDArray[np.float64]
    size_m: NDArray[np.float64]

    def taken(self, numbers: NDArray[np.int64]) -> Standings:
        """Those of regions with these numbers."""
        points = [self.ground_points[number] for number in numbers.tolist()]
        columns = (self.range_m, self.bearing_rad, self.width_m, self.size_m)
        return Standings(points, *(column[numbers] for column in columns))


def standings(regions: Sequence[Region], ground: GroundProjection) -> Standings:
    """Where regions stand."""
    # All points of all regions in each call: with NumPy a call costs more than a region does.
    counts = [len(region.foot_points) for region in regions]
    flat = chain.from_iterable(chain.from_iterable(region.foot_points for region in regions))
    places = ground.place(np.fromiter(flat, np.float64, 2 * sum(counts)).reshape(-1, 2))
    placed = np.isfinite(places[:, 0])
    places, region_of = places[placed], np.repeat(np.arange(len(regions)), counts)[placed]
    number = np.bincount(region_of, minlength=len(regions))
    x, y, _ = places.T
    points = zip(x.tolist(), y.tolist(), repeat(float(ground.ground_z_m)))
    ground_points = [tuple(islice(points, number_of_points)) for number_of_points in number.tolist()]
    ranges, bearings, widths, sizes = np.full((4, len(regions)), np.nan)
    if len(places):
        standing = number.nonzero()[0]
        number = number[standing]
        end = np.cumsum(number)
        begin = end - number
        directions, angles = _unwrapped(ground.bearing_rad(places), begin, end)
        # It adds one point after the other, unlike `reduceat`, and alike in every version of Python, unlike `sum`.
        bearings[standing] = np.bincount(region_of, directions)[standing] / number
        ranges[standing] = np.minimum.reduceat(ground.range_m(places), begin)
        widths[standing] = ranges[standing] * angles
        # A square of side s at the distance d covers about s^2 focal_x focal_y / d^2 pixels.
        squares_m = ranges * ranges + ground.height_m**2
        areas = np.array([region.area for region in regions])
        sizes = np.sqrt(areas * squares_m / (ground.camera.focal_x * ground.camera.focal_y))
    return Standings(ground_points, ranges, bearings, widths, sizes)


def large_enough(regions: Sequence[Region], places: Standings, min_size_m: float) -> tuple[Sequence[Region], Standings]:
    """The regions that are large enough, in their order, and where each stands.

    A region without a place has no size in metres. One whose foot is cut shows only a part of a thing, which may be
    near. Both count at any size.

    Args:
        places: of the regions, see `standings`.
        min_size_m: smallest `Standings.size_m`, metres.
    """
    is_small = places.size_m < min_size_m
    if not is_small.any():
        return regions, places
    is_cut = np.array([region.foot_is_cut for region in regions])
    kept = (is_cut | ~is_small).nonzero()[0]
    return tuple(regions[number] for number in kept.tolist()), places.taken(kept)


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
