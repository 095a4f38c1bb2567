"""A calibrated camera: pixels to rays and back, as `sensor_msgs/CameraInfo` defines them. Knows no ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros_ood_perception.camera.calibration.camera_info import CameraError, CameraInfoMessage
from ros_ood_perception.camera.calibration.distortion import DISTORTION_COEFFICIENTS, read_distortion

MAX_REPROJECTION_ERROR_PX = 0.05
MAX_TANGENT = 50.0  # a perspective camera has no rays farther than 88.9 degrees from the axis
LARGEST_NUMBER = 1e9  # in a calibration: no camera has such a focal length or coefficient
SMALLEST_FOCAL_PX = 0.01  # no camera has a shorter one, and the squares of tangents would overflow
UNDISTORT_ITERATIONS = 1000  # near the fold of a strong distortion it converges slowly
MOST_NEWTON_STEPS = 100  # twice the bisections that take pi to the resolution of doubles; most take five
SETTLED_RAD = 1e-14


@dataclass(frozen=True)
class CameraModel:
    """The ray of each pixel. The centre of the top left pixel is (0, 0), as in OpenCV.

    Rays are in the camera's optical frame (x right, y down, z forward) after `rotation`, which is CameraInfo's R.
    `image_geometry` uses the same frame. R is the identity except for stereo pairs.

    Attributes:
        height, width: of the image, pixels.
        focal_x, focal_y, centre_x, centre_y: pixels of this image.
        distortion_model: a key of `DISTORTION_COEFFICIENTS`.
        coefficients: of the distortion, empty for none.
        rotation: 3 x 3, row by row.
        skew: pixels that a row at focal length from the centre is shifted by: u = focal_x x + skew y + centre_x.
    """

    height: int
    width: int
    focal_x: float
    focal_y: float
    centre_x: float
    centre_y: float
    distortion_model: str = "plumb_bob"
    coefficients: tuple[float, ...] = ()
    rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    skew: float = 0.0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise CameraError(f"the image size is {self.width}x{self.height}; both must be positive")
        intrinsics = (self.focal_x, self.focal_y, self.centre_x, self.centre_y, self.skew)
        numbers = (*intrinsics, *self.coefficients, *self.rotation)
        # Written so that NaN is refused as well.
        if not all(abs(number) < LARGEST_NUMBER for number in numbers):
            raise CameraError(
                f"the calibration holds a number that is not finite, or absurd: {numbers}; calibrate the camera"
            )
        if not (self.focal_x >= SMALLEST_FOCAL_PX and self.focal_y >= SMALLEST_FOCAL_PX):
            raise CameraError(
                f"the focal lengths are {self.focal_x} and {self.focal_y} pixels; both must be {SMALLEST_FOCAL_PX} or "
                "more (zero means an uncalibrated camera: calibrate it)"
            )
        allowed = DISTORTION_COEFFICIENTS.get(self.distortion_model)
        if allowed is None:
            raise CameraError(
                f"distortion_model is '{self.distortion_model}'; known are {', '.join(DISTORTION_COEFFICIENTS)}"
            )
        if self.coefficients and len(self.coefficients) not in allowed:
            raise CameraError(
                f"D has {len(self.coefficients)} coefficients; {self.distortion_model} has "
                f"{' or '.join(map(str, allowed))}, or none for no distortion"
            )
        rotation = np.reshape(self.rotation, (3, 3)) if len(self.rotation) == 9 else None
        if rotation is None or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise CameraError(f"R is {self.rotation}; it must be a 3 x 3 rotation (the identity for a single camera)")

    @classmethod
    def from_camera_info(
        cls, info: CameraInfoMessage, image_size: tuple[int, int], rectified: bool = False
    ) -> CameraModel:
        """The camera of the images that come with this CameraInfo.

        For raw images K, D and R are used. For rectified images (such as `image_rect`) P is used, without distortion;
        its fourth column, the offset of the other camera of a stereo pair, does not change the rays. Binning and region
        of interest are applied as in `image_geometry`.

        Args:
            info: the message.
            image_size: height and width of the images, pixels.
            rectified: the images are rectified.

        Raises:
            CameraError: it is not calibrated, of an unknown model, or of images of another size.
        """
        roi, binning = info.roi, (max(1, int(info.binning_x)), max(1, int(info.binning_y)))
        full_height, full_width = int(roi.height) or int(info.height), int(roi.width) or int(info.width)
        height, width = image_size
        if (full_height // binning[1], full_width // binning[0]) != (height, width):
            raise CameraError(
                f"camera_info is of {full_width // binning[0]}x{full_height // binning[1]} images (width {info.width}, "
                f"height {info.height}, roi {roi.width}x{roi.height}, binning {binning[0]}x{binning[1]}), the image "
                f"is {width}x{height}; publish the camera_info of these images (image_proc's resize node scales it), "
                "or give their calibration as a file (parameter calibration.file)"
            )
        if rectified and roi.do_rectify:
            raise CameraError(
                "roi.do_rectify of camera_info is set: which part of the rectified image was cut out is not in it; "
                "rectify the whole image, or give the raw one"
            )
        focal_x, skew, focal_y, centre_x, centre_y = _intrinsics(info, rectified)
        # R is all zero where the publisher does not set it.
        rotation = np.array(info.r, np.float64).ravel()
        turned = not rectified and rotation.size and bool(np.any(rotation))
        model, coefficients = ("plumb_bob", ()) if rectified else read_distortion(info.distortion_model, info.d)
        return cls(
            height=height,
            width=width,
            focal_x=focal_x / binning[0],
            focal_y=focal_y / binning[1],
            centre_x=(centre_x - int(roi.x_offset)) / binning[0],
            centre_y=(centre_y - int(roi.y_offset)) / binning[1],
            distortion_model=model,
            coefficients=coefficients,
            rotation=tuple(rotation.tolist()) if turned else cls.rotation,
            skew=skew / binning[0],
        )

    def rays(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Unit rays (N, 3) of pixels (N, 2) u, v; NaN where the distortion has no inverse.

        A distortion polynomial may turn back outside the field of view that the camera was calibrated for. Two rays
        would then have the same pixel, and none is returned.
        """
        uv = np.asarray(pixels, np.float64).reshape(-1, 2)
        if not np.isfinite(uv).all():
            rays, known = np.full((len(uv), 3), np.nan), np.isfinite(uv).all(axis=1)
            rays[known] = self.rays(uv[known])
            return rays
        if self.skew:
            # OpenCV's functions for distortions know none.
            uv = np.stack([uv[:, 0] - self._shift(uv[:, 1]), uv[:, 1]], axis=1)
        # Columns throughout: NumPy takes several times as long on rows of two or three numbers.
        u, v = uv.T.copy()
        x, y = (u - self.centre_x) / self.focal_x, (v - self.centre_y) / self.focal_y
        if self.distortion_model == "equidistant":
            rays = self._equidistant_rays(x, y)
        else:
            if self.coefficients and len(u):
                x, y = self._undistorted(uv)
            length = np.sqrt(x * x + y * y + 1)
            rays = np.array([x / length, y / length, 1 / length])
        return rays.T @ self._turn.T

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels (N, 2) of points or directions (N, 3) in the optical frame; NaN where none sees them."""
        points = np.asarray(points, np.float64).reshape(-1, 3) @ self._turn
        x, y, z = points.T
        radius = np.hypot(x, y)
        if self.distortion_model == "equidistant":
            angle = np.arctan2(radius, z)
            seen = angle < self._largest_angle
            scale = np.divide(self._bent_angle(angle), radius, out=np.zeros_like(radius), where=radius > 0)
            u, v = x * scale * self.focal_x + self.centre_x, y * scale * self.focal_y + self.centre_y
        else:
            seen = (z > 0) & (radius < z * self._largest_tangent)
            with np.errstate(all="ignore"):
                u, v = self._project(x / z, y / z)
        pixels = np.array([u + self._shift(v) if self.skew else u, v])
        pixels[:, ~seen] = np.nan
        return pixels.T

    def _shift(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the skew moves pixels of these rows (N,) along their row."""
        shift: NDArray[np.float64] = (v - self.centre_y) / self.focal_y * self.skew
        return shift

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        return np.reshape(self.rotation, (3, 3))

    @cached_property
    def _matrix(self) -> NDArray[np.float64]:
        return np.array([[self.focal_x, 0, self.centre_x], [0, self.focal_y, self.centre_y], [0, 0, 1]])

    def _project(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Perspective pixels u, v (N,) of points x, y (N,) with z = 1, before `rotation` and without skew.

        OpenCV's formula, in its order. Its function also computes the derivatives of each pixel by all parameters, in
        five times the time. So it is used only for a tilted sensor.
        """
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y = (*self.coefficients, *[0.0] * 14)[:14]
        if len(x) and (tilt_x or tilt_y):
            origin, points = np.zeros(3), np.stack([x, y, np.ones_like(x)], axis=1)
            found, _ = cv2.projectPoints(points, origin, origin, self._matrix, np.array(self.coefficients))
            u, v = found.reshape(-1, 2).T
            return u, v
        second = x * x + y * y
        fourth = second * second
        sixth = fourth * second
        twice = 2 * x * y
        radial = 1 + k1 * second + k2 * fourth + k3 * sixth
        bent_x, bent_y = x * radial, y * radial
        if k4 or k5 or k6:
            inverse = 1 / (1 + k4 * second + k5 * fourth + k6 * sixth)
            bent_x, bent_y = bent_x * inverse, bent_y * inverse
        bent_x = bent_x + p1 * twice + p2 * (second + 2 * x * x)
        bent_y = bent_y + p1 * (second + 2 * y * y) + p2 * twice
        if s1 or s2 or s3 or s4:
            bent_x = bent_x + s1 * second + s2 * fourth
            bent_y = bent_y + s3 * second + s4 * fourth
        return bent_x * self.focal_x + self.centre_x, bent_y * self.focal_y + self.centre_y

    def _undistorted(self, pixels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points x, y (N,) with z = 1 of perspective pixels (N, 2) without skew; NaN where there is none.

        There must be at least one pixel.
        """
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, UNDISTORT_ITERATIONS, 1e-6)
        found = cv2.undistortPointsIter(
            pixels[:, None], self._matrix, np.array(self.coefficients), None, None, criteria
        )
        x, y = found.reshape(-1, 2).T.copy()
        # OpenCV returns a ray for every pixel. It is wrong where its projection is not that pixel.
        with np.errstate(all="ignore"):
            u_again, v_again = self._project(x, y)
            error = np.maximum(np.abs(u_again - pixels[:, 0]), np.abs(v_again - pixels[:, 1]))
            wrong = ~((error <= MAX_REPROJECTION_ERROR_PX) & (np.hypot(x, y) < self._largest_tangent))
        x[wrong] = y[wrong] = np.nan
        return x, y

    @cached_property
    def _largest_tangent(self) -> float:
        """Distance from the axis at z = 1 where the radial distortion first turns back."""
        if not self.coefficients:
            return MAX_TANGENT
        k1, k2, _p1, _p2, k3, k4, k5, k6 = (*self.coefficients, *[0.0] * 8)[:8]
        tangent = np.linspace(0, MAX_TANGENT, 100_001)
        square = tangent**2
        with np.errstate(all="ignore"):
            numerator = 1 + square * (k1 + square * (k2 + square * k3))
            denominator = 1 + square * (k4 + square * (k5 + square * k6))
            bent = tangent * numerator / denominator
        turns = np.flatnonzero(~(np.diff(bent) > 0) | ~(denominator[1:] > 0))
        return float(tangent[turns[0]]) if len(turns) else MAX_TANGENT

    def _bent_angle(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Kannala and Brandt: angle (1 + k1 angle^2 + k2 angle^4 + k3 angle^6 + k4 angle^8)."""
        k1, k2, k3, k4 = self.coefficients or (0.0,) * 4
        square = angle**2
        return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))

    @cached_property
    def _largest_angle(self) -> float:
        """Angle from the axis, radians, where the distortion first turns back; pi: it never does."""
        angle = np.linspace(0, math.pi, 10_001)
        turns = np.flatnonzero(~(np.diff(self._bent_angle(angle)) > 0))
        return float(angle[turns[0]]) if len(turns) else math.pi

    def _equidistant_rays(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit rays (3, N) of pixels that the matrix without distortion places at x, y (N,) with z = 1."""
        # Not cv2.fisheye.undistortPoints: it returns tangents, which end at 90 degrees from the axis.
        bent = np.linalg.norm([x, y], axis=0)
        angle = self._straight_angle(bent)
        away = bent > 0
        sine = np.sin(angle)
        across, down = (np.divide(value, bent, out=np.zeros_like(bent), where=away) * sine for value in (x, y))
        return np.array([across, down, np.cos(angle)])

    def _straight_angle(self, bent: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse (N,) of `_bent_angle` up to the largest angle; NaN beyond.

        Newton's method; where its step would leave the interval that the angle is known to be in, or would not be half
        the last one, a bisection.
        """
        k1, k2, k3, k4 = self.coefficients or (0.0,) * 4
        low, high = np.zeros_like(bent), np.full_like(bent, self._largest_angle)
        moving = bent < self._bent_angle(high)
        angle = np.where(moving, np.minimum(bent, high), np.nan)
        moved = high
        for _ in range(MOST_NEWTON_STEPS):
            error, square = self._bent_angle(angle) - bent, angle**2
            low, high = np.where(error < 0, angle, low), np.where(error > 0, angle, high)
            slope = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * (9 * k4))))
            with np.errstate(divide="ignore", invalid="ignore"):
                after = angle - error / slope
            is_good = (after >= low) & (after <= high) & (2 * np.abs(after - angle) <= moved)
            after = np.where(is_good, after, (low + high) / 2)
            moved = np.abs(after - angle)
            # What has settled stays, so that an angle does not depend on the others.
            angle, moving = np.where(moving, after, angle), moving & (moved > SETTLED_RAD)
            if not moving.any():
                break
        return angle


def _intrinsics(info: CameraInfoMessage, rectified: bool) -> tuple[float, float, float, float, float]:
    """fx, skew, fy, cx and cy of K, or of P for rectified images.

    Raises:
        CameraError: it is not a camera matrix.
    """
    name, values, size = ("P", info.p, 12) if rectified else ("K", info.k, 9)
    matrix = np.array(values, np.float64).ravel()
    if not matrix.any():
        remedy = (
            "the driver must fill it in for rectified images; if they are not rectified, or D is zero, set "
            "ground.rectified_images to false"
            if rectified
            else "calibrate it (camera_calibration), or give its calibration as a file (parameter calibration.file)"
        )
        raise CameraError(f"{name} of camera_info is empty or all zero: the camera is not calibrated; {remedy}")
    if matrix.size != size:
        raise CameraError(f"{name} of camera_info has {matrix.size} numbers; it must have {size}")
    matrix = matrix.reshape(3, -1)[:, :3]
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CameraError(f"{name} of camera_info is {matrix.ravel().tolist()}; the camera is not calibrated")
    if not np.allclose(matrix[[1, 2, 2, 2], [0, 0, 1, 2]], (0, 0, 0, 1)):
        raise CameraError(
            f"{name} of camera_info is {matrix.ravel().tolist()}; it must be [fx skew cx, 0 fy cy, 0 0 1]"
        )
    focal_x, skew, centre_x, focal_y, centre_y = (float(matrix[at]) for at in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
    return focal_x, skew, focal_y, centre_x, centre_y
