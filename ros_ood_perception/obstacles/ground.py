"""Pixels to places on flat ground, in metres. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.camera.camera_model import CameraModel

OPTICAL_TO_BODY = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Optical frame (x right, y down, z forward) to body frame (x forward, y left, z up), REP 103."""

VIEW_SAMPLES = 32
"""Columns and rows of the grid of pixels in which ground is searched: fine enough for a strip at any edge."""


@dataclass(frozen=True)
class CameraPose:
    """Where a camera's optical frame is in the vehicle's frame (`base_link`: x forward, y left, z up).

    Attributes:
        rotation: 3 x 3, row by row: optical frame to vehicle's frame.
        translation: x, y, z of the camera in the vehicle's frame, metres.
    """

    rotation: tuple[float, ...]
    translation: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.rotation, *self.translation))):
            raise CameraError(f"the camera's pose holds a number that is not finite: {self}")

    def is_close(self, other: CameraPose) -> bool:
        """Whether both poses are the same but for rounding."""
        same = np.allclose(self.rotation, other.rotation, atol=1e-6)
        return same and np.allclose(self.translation, other.translation, atol=1e-6)

    @classmethod
    def from_transform(cls, translation: Sequence[float], quaternion: Sequence[float]) -> CameraPose:
        """From the transform that tf2 gives for target `base_link`, source the image's frame_id.

        Args:
            translation: x, y, z, metres.
            quaternion: x, y, z, w, of length 1.

        Raises:
            CameraError: a value is not finite, or the quaternion has another length.
        """
        x, y, z, w = (float(value) for value in quaternion)
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if not abs(length - 1) < 0.01:
            raise CameraError(f"the rotation ({x}, {y}, {z}, {w}) has the length {length}; a quaternion has length 1")
        x, y, z, w = x / length, y / length, z / length, w / length
        return cls(
            rotation=(
                *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
                *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
                *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
            ),
            translation=(float(translation[0]), float(translation[1]), float(translation[2])),
        )

    @classmethod
    def from_mounting(
        cls,
        height_m: float,
        pitch_deg: float = 0.0,
        roll_deg: float = 0.0,
        yaw_deg: float = 0.0,
        forward_m: float = 0.0,
        left_m: float = 0.0,
    ) -> CameraPose:
        """From measured height and angles.

        Args:
            height_m: height of the camera above the origin of the vehicle's frame.
            pitch_deg: positive looks down, as in REP 103.
            roll_deg: positive lowers the right side of the camera.
            yaw_deg: positive looks left.
            forward_m, left_m: distance of the camera from the origin of the vehicle's frame, ahead and to the left.

        Raises:
            CameraError: a value is not finite.
        """
        if not all(map(math.isfinite, (roll_deg, pitch_deg, yaw_deg))):
            raise CameraError(
                f"the mounting has roll {roll_deg}, pitch {pitch_deg} and yaw {yaw_deg} degrees; one is not finite"
            )
        roll, pitch, yaw = (math.radians(angle) for angle in (roll_deg, pitch_deg, yaw_deg))
        about_x = np.array([[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]])
        about_y = np.array([[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]])
        about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        rotation = about_z @ about_y @ about_x @ OPTICAL_TO_BODY
        return cls(tuple(rotation.ravel().tolist()), (float(forward_m), float(left_m), float(height_m)))

    def as_mounting(self) -> dict[str, float]:
        """The arguments of `from_mounting` that give this pose, up to rounding.

        They are not unique for a camera that looks straight up or down; one solution is returned.
        """
        turn = np.reshape(self.rotation, (3, 3)) @ OPTICAL_TO_BODY.T
        forward, left, height = self.translation
        return {
            "height_m": height,
            "pitch_deg": math.degrees(-math.asin(min(max(float(turn[2, 0]), -1.0), 1.0))),
            "roll_deg": math.degrees(math.atan2(turn[2, 1], turn[2, 2])),
            "yaw_deg": math.degrees(math.atan2(turn[1, 0], turn[0, 0])),
            "forward_m": forward,
            "left_m": left,
        }


@dataclass(frozen=True)
class GroundProjection:
    """A camera over flat ground: gives the place that a pixel shows.

    Attributes:
        camera: the calibrated camera.
        pose: the camera's pose in the vehicle's frame.
        max_range_m: largest distance of a place from the point below the camera. Farther away, the error of one pixel
            is too many metres.
        ground_z_m: height of the ground in the vehicle's frame; 0 if `base_link` is on the ground, as in Autoware.
    """

    camera: CameraModel
    pose: CameraPose
    max_range_m: float = 40.0
    ground_z_m: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_range_m) and self.max_range_m > 0):
            raise CameraError(f"the largest range is {self.max_range_m} m; it must be positive and finite")
        if not math.isfinite(self.ground_z_m) or not self.height_m > 0:
            raise CameraError(
                f"the camera is {self.height_m} m over the ground (its z is {self.pose.translation[2]}, the ground's "
                f"{self.ground_z_m}); it must be above it: check the transform or the mounting parameters"
            )

    @property
    def height_m(self) -> float:
        """Height of the camera above the ground, metres."""
        return self.pose.translation[2] - self.ground_z_m

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        return np.reshape(self.pose.rotation, (3, 3))

    @cached_property
    def shows_ground(self) -> bool:
        """Whether any pixel of a grid over the image, with its edges, shows ground within `max_range_m`.

        Computed once, because it places a thousand points.
        """
        u = np.linspace(0, self.camera.width - 1, VIEW_SAMPLES)
        v = np.linspace(0, self.camera.height - 1, VIEW_SAMPLES)
        return bool(np.isfinite(self.place(np.stack(np.meshgrid(u, v), axis=-1))).any())

    def place(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Places (N, 3) x, y, z in the vehicle's frame, metres, of pixels (N, 2) u, v.

        NaN where a pixel shows no ground within `max_range_m`: its ray goes above the horizon or too far, or there is
        none. Pixels outside the image are placed too.
        """
        x, y, z = (self.camera.rays(pixels) @ self._turn.T).T
        with np.errstate(invalid="ignore", divide="ignore"):
            length = self.height_m / -z
            ahead, left = x * length, y * length
            # Written so that NaN is left out as well.
            seen = (z < 0) & (np.hypot(ahead, left) <= self.max_range_m)
        x, y, _ = self.pose.translation
        places = np.array([ahead + x, left + y, np.full(len(z), self.ground_z_m)])
        places[:, ~seen] = np.nan
        return places.T

    def pixels(self, places: ArrayLike) -> NDArray[np.float64]:
        """Pixels (N, 2) that show places (N, 3) of the vehicle's frame; NaN where they are outside the image."""
        places = np.asarray(places, np.float64).reshape(-1, 3)
        points = (places - self.pose.translation) @ self._turn
        pixels = self.camera.pixels(points)
        u, v = pixels.T
        # Written so that NaN is outside.
        inside = (u >= -0.5) & (u < self.camera.width - 0.5) & (v >= -0.5) & (v < self.camera.height - 0.5)
        pixels[~inside] = np.nan
        return pixels

    def range_m(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance (N,) of places (N, 3) from the point below the camera, metres."""
        return np.hypot(places[:, 0] - self.pose.translation[0], places[:, 1] - self.pose.translation[1])

    def bearing_rad(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Direction (N,) of places (N, 3) from the point below the camera: 0 ahead, positive to the left."""
        return np.arctan2(places[:, 1] - self.pose.translation[1], places[:, 0] - self.pose.translation[0])
