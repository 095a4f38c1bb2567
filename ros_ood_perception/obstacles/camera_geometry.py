"""One camera over the ground, from its camera_info and its pose. Knows no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.calibration.camera_info import CameraError, CameraInfoMessage
from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.ground_map import GridSettings, GroundMap


@dataclass(frozen=True)
class GroundLimits:
    """Settings of the geometry that may change from frame to frame.

    Attributes:
        max_range_m: largest distance of a place from the point below the camera, metres.
        z_m: height of the ground in the vehicle's frame, metres.
    """

    max_range_m: float = 40.0
    z_m: float = 0.0


def _check_upright(pose: CameraPose) -> None:
    """Check that down in the picture is down or near on the road: an obstacle's foot is its lowest edge there.

    Raises:
        CameraError: the camera lies on its side, or hangs upside down.
    """
    right_up, down_up = pose.rotation[6], pose.rotation[7]
    # The picture's right is level, or its down steeper than it, however far the camera looks down.
    if abs(right_up) > max(-down_up, 0.1) or down_up > 0.1:
        raise CameraError(
            "the camera is not upright: down in its picture is not towards the road, so obstacles' feet would be "
            "searched at the wrong edge; turn the image in the driver (image_rotate, or the driver's own option), and "
            "give the pose of the turned image"
        )


class CameraGeometry:
    """Follows the geometry of one camera. One thread may call `set_camera_info` while another one asks for the ground.

    Args:
        pose_of: gives the camera's pose for the frame_id of its images, or raises `CameraError`.
        rectified: the images are rectified.
        no_info: gives the problem to report while no camera_info is known.
    """

    def __init__(self, pose_of: Callable[[str], CameraPose], rectified: bool, no_info: Callable[[], str]) -> None:
        self._pose_of = pose_of
        self._rectified = rectified
        self._no_info = no_info
        self._info: CameraInfoMessage | None = None
        self._model: tuple[Any, CameraModel] | None = None
        self._projection: GroundProjection | None = None
        self._map: tuple[Any, GroundMap] | None = None
        self._problem = "no frame yet"

    @property
    def problem(self) -> str:
        """Why the ground was not known for the last frame; empty if it was."""
        return self._problem

    def set_camera_info(self, info: CameraInfoMessage) -> None:
        """Use this calibration from the next frame on."""
        self._info = info

    def restore(self, problem: str) -> None:
        """Continue with the `problem` of an earlier run's last frame."""
        self._problem = problem

    def ground(self, image_size: tuple[int, int], frame_id: str, limits: GroundLimits) -> GroundProjection | None:
        """The camera over the ground; None if that is not known; `problem` then says why.

        Args:
            image_size: height and width of the frame, pixels.
            frame_id: frame_id of the frame's header.
            limits: apply to this frame.
        """
        try:
            camera, pose = self._camera(image_size), self._pose_of(frame_id)
            known = self._projection
            if known is None or (known.camera, known.pose, known.max_range_m, known.ground_z_m) != (
                camera,
                pose,
                limits.max_range_m,
                limits.z_m,
            ):
                known = self._projection = GroundProjection(camera, pose, limits.max_range_m, limits.z_m)
            if not known.shows_ground:
                # Nothing would be placed, and a planner would read the empty cloud as a free road.
                raise CameraError(
                    f"no pixel of the image shows ground within {limits.max_range_m:g} m (ground.max_range_m): the "
                    "images' frame_id must be the camera's optical frame (x right, y down, z forward, REP 103), not "
                    "its body's; then check pitch and roll, in the transform or the mounting parameters, and D of "
                    "camera_info"
                )
            _check_upright(pose)
        except CameraError as error:
            self._problem = str(error)
            return None
        self._problem = ""
        return known

    def _camera(self, image_size: tuple[int, int]) -> CameraModel:
        info = self._info
        if info is None:
            raise CameraError(self._no_info())
        roi = info.roi
        key = (
            image_size,
            *(info.height, info.width, info.distortion_model, info.binning_x, info.binning_y),
            *(roi.x_offset, roi.y_offset, roi.height, roi.width),
            *(np.asarray(field, np.float64).tobytes() for field in (info.d, info.k, info.r, info.p)),
        )
        if self._model is None or self._model[0] != key:
            self._model = None
            self._model = (key, CameraModel.from_camera_info(info, image_size, self._rectified))
        return self._model[1]

    def ground_map(
        self,
        ground: GroundProjection,
        engine_size: tuple[int, int],
        drivable_ids: frozenset[int],
        hysteresis: float,
        ego_mask: NDArray[np.bool_] | None,
        grid: GridSettings,
    ) -> GroundMap:
        """The ground map for a result of `ground` and these settings. It is kept until one of them changes.

        Args:
            ego_mask: the camera's mask. It must be the same in every call.
        """
        key = (ground, engine_size, drivable_ids, hysteresis, grid)
        if self._map is None or self._map[0] != key:
            self._map = (key, GroundMap(ground, engine_size, drivable_ids, hysteresis, ego_mask, grid))
        return self._map[1]
