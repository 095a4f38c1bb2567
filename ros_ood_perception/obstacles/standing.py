"""Where a region stands on the ground: its foot points placed, its range and its width. Knows no ROS."""

from __future__ import annotations

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
    # All points in one call: the call costs more than a point does.
    places = ground.place([point for region in regions for point in region.foot_points])
    ranges, bearings = ground.range_m(places), ground.bearing_rad(places)
    found: list[Standing | None] = []
    begin = 0
    for region in regions:
        end = begin + len(region.foot_points)
        seen = np.flatnonzero(np.isfinite(ranges[begin:end])) + begin
        begin = end
        if not len(seen):
            found.append(None)
            continue
        range_m, directions = float(ranges[seen].min()), np.unwrap(bearings[seen])
        found.append(
            Standing(
                ground_points=tuple((x, y, z) for x, y, z in places[seen].tolist()),
                range_m=range_m,
                bearing_rad=float(directions.mean()),
                width_m=range_m * float(directions.max() - directions.min()),
            )
        )
    return found
