"""Places on the ground with their errors, followed over time: standing in the world, or sliding with the vehicle.
Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.evidence import EvidenceSettings, place_ratio
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.motion import SECONDS_PER_NANOSECOND, PlanarPose
from ros_ood_perception.obstacles.regions import Region
from ros_ood_perception.obstacles.standing import Standing

GATE = 9.21
"""Squared Mahalanobis distance of two places that 99 % of equal ones keep (chi-square, two degrees of freedom)."""
EDGE_ERROR = 0.05
"""Standard deviation of a region's edge, as a fraction of its size in the picture, beside `foot_error`."""


@dataclass(frozen=True)
class Place:
    """A place on the ground as a Gaussian: x, y in metres, and its covariance xx, xy, yy in square metres."""

    x: float
    y: float
    xx: float
    xy: float
    yy: float

    def wider(self, variance: float) -> Place:
        """With this variance added in every direction, m^2."""
        return Place(self.x, self.y, self.xx + variance, self.xy, self.yy + variance)

    def in_fixed_frame(self, vehicle: PlanarPose) -> Place:
        """A place of the vehicle's frame in the fixed frame."""
        c, s = math.cos(vehicle.yaw), math.sin(vehicle.yaw)
        return Place(
            vehicle.x + c * self.x - s * self.y,
            vehicle.y + s * self.x + c * self.y,
            c * c * self.xx - 2 * c * s * self.xy + s * s * self.yy,
            c * s * (self.xx - self.yy) + (c * c - s * s) * self.xy,
            s * s * self.xx + 2 * c * s * self.xy + c * c * self.yy,
        )

    def difference(self, other: Place) -> tuple[float, float]:
        """Squared Mahalanobis distance of two measured places, and the root of the determinant of their covariance."""
        xx, xy, yy = self.xx + other.xx, self.xy + other.xy, self.yy + other.yy
        determinant = xx * yy - xy * xy
        dx, dy = other.x - self.x, other.y - self.y
        return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant, math.sqrt(determinant)

    def combined(self, other: Place) -> Place:
        """The mean of both, each weighted with its information: the update of a Kalman filter."""
        xx, xy, yy = self.xx + other.xx, self.xy + other.xy, self.yy + other.yy
        determinant = xx * yy - xy * xy
        # Gain: own covariance times the inverse of the sum.
        a, b = (self.xx * yy - self.xy * xy) / determinant, (self.xy * xx - self.xx * xy) / determinant
        c, d = (self.xy * yy - self.yy * xy) / determinant, (self.yy * xx - self.xy * xy) / determinant
        dx, dy = other.x - self.x, other.y - self.y
        cross = self.xy - a * self.xy - b * self.yy
        return Place(
            self.x + a * dx + b * dy,
            self.y + c * dx + d * dy,
            self.xx - a * self.xx - b * self.xy,
            cross,
            self.yy - c * self.xy - d * self.yy,
        )


def measured_places(
    regions: Sequence[Region],
    standings: Sequence[Standing | None],
    ground: GroundProjection,
    settings: EvidenceSettings,
) -> list[Place | None]:
    """Where each region stands in the vehicle's frame, with its error; None: nowhere, or its foot is cut.

    On flat ground a foot at the angle a below the horizon is at the range r = h / tan a, so an error of the angle gives
    sigma_r = sigma_a (r^2 + h^2) / h, where sigma_a holds the error of the foot's row, divided by the focal length,
    and that of the pitch. Across the line of sight it is the error of the column, divided by the focal length, times
    the distance.
    """
    camera, height_m = ground.camera, ground.height_m
    focal_x, focal_y = camera.focal_x, camera.focal_y
    pixels, pitch = settings.foot_error * camera.height, math.radians(settings.pitch_error_deg)
    own_x, own_y, _ = ground.pose.translation
    found: list[Place | None] = []
    for region, standing in zip(regions, standings, strict=True):
        if standing is None or region.foot_is_cut:
            found.append(None)
            continue
        range_m, box = standing.range_m, region.box
        row = math.hypot(pixels, EDGE_ERROR * box.height) / focal_y
        column = math.hypot(pixels, EDGE_ERROR * box.width) / focal_x
        square = range_m * range_m + height_m * height_m
        along = (math.hypot(row, pitch) * square / height_m) ** 2
        across = column * column * square
        c, s = math.cos(standing.bearing_rad), math.sin(standing.bearing_rad)
        found.append(
            Place(
                own_x + range_m * c,
                own_y + range_m * s,
                c * c * along + s * s * across,
                c * s * (along - across),
                s * s * along + c * c * across,
            )
        )
    return found


@dataclass
class FollowedPlace:
    """The place of one track under two hypotheses.

    Attributes:
        static: it stands in the world; in the fixed frame.
        sliding: it slides with the vehicle; in the vehicle's frame.
        stamp_ns: of both.
    """

    static: Place
    sliding: Place
    stamp_ns: int

    def predicted(self, stamp_ns: int, settings: EvidenceSettings) -> Place:
        """`static` at a later stamp: where a slow object may be by then."""
        return self.static.wider(self._walked(stamp_ns, settings))

    def _walked(self, stamp_ns: int, settings: EvidenceSettings) -> float:
        seconds = max(stamp_ns - self.stamp_ns, 0) * SECONDS_PER_NANOSECOND
        return (settings.object_speed_mps * seconds) ** 2

    def update(self, place: Place, in_fixed: Place, stamp_ns: int, settings: EvidenceSettings) -> float:
        """Take the next measured place, in the vehicle's and in the fixed frame; returns its evidence.

        See `evidence.place_ratio`. A place that neither hypothesis explains starts both again: the region became
        another one, as when two merge, or the object moves.
        """
        static, sliding = self.predicted(stamp_ns, settings), self.sliding.wider(self._walked(stamp_ns, settings))
        static_distance, static_root = static.difference(in_fixed)
        sliding_distance, sliding_root = sliding.difference(place)
        self.stamp_ns = stamp_ns
        if static_distance > GATE and sliding_distance > GATE:
            self.static, self.sliding = in_fixed, place
        else:
            self.static, self.sliding = static.combined(in_fixed), sliding.combined(place)
        return place_ratio(
            math.exp(-static_distance / 2) / (2 * math.pi * static_root),
            math.exp(-sliding_distance / 2) / (2 * math.pi * sliding_root),
            1 / (math.pi * GATE * static_root),
        )


def distances(tracks: Sequence[Place], regions: Sequence[Place]) -> NDArray[np.float64]:
    """Squared Mahalanobis distances (N, M) of N regions and M tracks; both at least one."""
    first = np.array([(p.x, p.y, p.xx, p.xy, p.yy) for p in regions])[:, None]
    second = np.array([(p.x, p.y, p.xx, p.xy, p.yy) for p in tracks])[None]
    dx, dy = (first - second)[..., :2].transpose(2, 0, 1)
    xx, xy, yy = (first + second)[..., 2:].transpose(2, 0, 1)
    found: NDArray[np.float64] = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
    return found
