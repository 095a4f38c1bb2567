"""Places on the ground with their errors, followed over time: standing in the world, or sliding with the vehicle.
Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.obstacles.evidence import EvidenceSettings, place_ratios
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.motion import SECONDS_PER_NANOSECOND, PlanarPose

GATE = 9.21
"""Squared Mahalanobis distance of two places that 99 % of equal ones keep (chi-square, two degrees of freedom)."""
EDGE_ERROR = 0.05
"""Standard deviation of a region's edge, as a fraction of its size in the picture, beside `foot_error`."""


@dataclass(frozen=True)
class Places:
    """Places on the ground as Gaussians.

    Attributes:
        columns: (5, ...) x, y in metres, and the covariance xx, xy, yy in square metres, of any number of places.
    """

    columns: NDArray[np.float64]

    def wider(self, variances: NDArray[np.float64]) -> Places:
        """With variances (...) added in every direction, m^2."""
        x, y, xx, xy, yy = self.columns
        return Places(np.array([x, y, xx + variances, xy, yy + variances]))

    def in_fixed_frame(self, vehicle: PlanarPose) -> Places:
        """Places of the vehicle's frame in the fixed frame."""
        x, y, xx, xy, yy = self.columns
        c, s = math.cos(vehicle.yaw), math.sin(vehicle.yaw)
        turned = [
            vehicle.x + c * x - s * y,
            vehicle.y + s * x + c * y,
            c * c * xx - 2 * c * s * xy + s * s * yy,
            c * s * (xx - yy) + (c * c - s * s) * xy,
            s * s * xx + 2 * c * s * xy + c * c * yy,
        ]
        return Places(np.array(turned))

    def differences(self, others: Places) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Squared Mahalanobis distances of measured places, and the determinants of the sums of their covariances.

        Both have the shape to which the places broadcast.
        """
        dx, dy = others.columns[:2] - self.columns[:2]
        xx, xy, yy = self.columns[2:] + others.columns[2:]
        determinants = xx * yy - xy * xy
        return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinants, determinants

    def combined(self, others: Places) -> Places:
        """The means of both, each weighted with its information: the update of a Kalman filter."""
        x, y, own_xx, own_xy, own_yy = self.columns
        dx, dy = others.columns[:2] - self.columns[:2]
        xx, xy, yy = self.columns[2:] + others.columns[2:]
        determinants = xx * yy - xy * xy
        # Gain: own covariance times the inverse of the sum.
        a, b = (own_xx * yy - own_xy * xy) / determinants, (own_xy * xx - own_xx * xy) / determinants
        c, d = (own_xy * yy - own_yy * xy) / determinants, (own_yy * xx - own_xy * xy) / determinants
        updated = [
            x + a * dx + b * dy,
            y + c * dx + d * dy,
            own_xx - a * own_xx - b * own_xy,
            own_xy - a * own_xy - b * own_yy,
            own_yy - c * own_xy - d * own_yy,
        ]
        return Places(np.array(updated))


def measured_places(
    boxes: NDArray[np.int64],
    range_m: NDArray[np.float64],
    bearing_rad: NDArray[np.float64],
    ground: GroundProjection,
    settings: EvidenceSettings,
) -> Places:
    """Where regions stand in the vehicle's frame, with their errors: (5, N).

    On flat ground a foot at the angle a below the horizon is at the range r = h / tan a, so an error of the angle gives
    sigma_r = sigma_a (r^2 + h^2) / h, where sigma_a holds the error of the foot's row, divided by the focal length,
    and that of the pitch. Across the line of sight it is the error of the column, divided by the focal length, times
    the distance.

    Args:
        boxes: (N, 4) of the regions, see `matching.sides`.
        range_m, bearing_rad: (N,) see `Standings`.
        ground: the camera over the ground.
        settings: the errors.
    """
    camera, height_m = ground.camera, ground.height_m
    pixels, pitch = settings.foot_error * camera.height, math.radians(settings.pitch_error_deg)
    own_x, own_y, _ = ground.pose.translation
    widths, heights = (EDGE_ERROR * boxes[:, 2:]).T
    row_variances = (pixels * pixels + heights * heights) / (camera.focal_y * camera.focal_y)
    column_variances = (pixels * pixels + widths * widths) / (camera.focal_x * camera.focal_x)
    directions = bearing_rad.tolist()
    c, s = _each(math.cos, directions), _each(math.sin, directions)
    squares = range_m * range_m + height_m * height_m
    along = (row_variances + pitch * pitch) * squares * squares / (height_m * height_m)
    across = column_variances * squares
    measured = [
        own_x + range_m * c,
        own_y + range_m * s,
        c * c * along + s * s * across,
        c * s * (along - across),
        s * s * along + c * c * across,
    ]
    return Places(np.array(measured))


def walked(since_ns: NDArray[np.int64], settings: EvidenceSettings) -> NDArray[np.float64]:
    """Variances (N,) of how far slow objects may have moved in such times (N,), m^2."""
    seconds = np.maximum(since_ns, 0) * SECONDS_PER_NANOSECOND
    metres = settings.object_speed_mps * seconds
    return metres * metres


def updated(before: Places, measured: Places) -> tuple[Places, list[float]]:
    """Take the next measured places of N tracks.

    A place that neither hypothesis explains starts both again: the region became another one, as when two merge, or the
    object moves.

    Args:
        before: (5, 2, N) places by now if the things stand in the world, in the fixed frame; and if they slide with the
            vehicle, in the vehicle's frame.
        measured: (5, 2, N) what was measured, in both frames.

    Returns:
        The next `before`, and the evidence of each place, see `evidence.place_ratios`.
    """
    distances, determinants = before.differences(measured)
    is_explained = (distances <= GATE).any(axis=0)
    after = Places(np.where(is_explained, before.combined(measured).columns, measured.columns))
    roots = np.sqrt(determinants)
    exponentials = _each(math.exp, (-distances / 2).ravel().tolist()).reshape(distances.shape)
    static_densities, sliding_densities = exponentials / (2 * math.pi * roots)
    return after, place_ratios(static_densities, sliding_densities, 1 / (math.pi * GATE * roots[0]))


def _each(function: Callable[[float], float], arguments: Iterable[float]) -> NDArray[np.float64]:
    """Results (N,) of a function of `math`. NumPy chooses its own by the processor; they differ in the last digit."""
    return np.fromiter(map(function, arguments), np.float64)
