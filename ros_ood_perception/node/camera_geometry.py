"""Where one camera's pixels lie on the ground: from its camera_info and its pose, as far as they are known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from ros_ood_perception.camera_model import CameraError, CameraModel
from ros_ood_perception.ground import CameraPose, GroundProjection
from ros_ood_perception.ground_map import GridSettings, GroundMap
from ros_ood_perception.node.transforms import Transforms

POSE_EVERY_S = 1.0
"""How often tf2 is asked again: a camera that was turned is seen within that time."""


@dataclass(frozen=True)
class GroundLimits:
    """What of the geometry is a live parameter."""

    max_range_m: float
    z_m: float


class CameraGeometry:
    """Follows the geometry of one camera.

    The executor's thread receives camera_info; the inference thread asks for the ground. Only references are shared.

    Args:
        node: that subscribes.
        topic: of camera_info.
        mounting: the camera's pose; None: from `transforms`.
        transforms: of tf2.
        rectified: the images are rectified ones.
    """

    def __init__(
        self, node: Node, topic: str, mounting: CameraPose | None, transforms: Transforms | None, rectified: bool
    ) -> None:
        self._node = node
        self._topic = topic
        self._mounting = mounting
        self._transforms = transforms
        self._rectified = rectified
        self._info: CameraInfo | None = None
        self._subscription: Subscription[CameraInfo] | None = None
        self._model: tuple[Any, CameraModel] | None = None
        self._pose: tuple[str, float, CameraPose] | None = None
        self._ground: GroundProjection | None = None
        self._map: tuple[Any, GroundMap] | None = None
        self.problem = "no frame yet"

    def listen(self) -> None:
        """Subscribe to camera_info."""
        self._subscription = self._node.create_subscription(
            CameraInfo,
            self._topic,
            self._on_info,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def stop_listening(self) -> None:
        """Destroy the subscription; what was received stays."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def ground(self, image_size: tuple[int, int], frame_id: str, limits: GroundLimits) -> GroundProjection | None:
        """The camera over the ground, or None where that is not known: then `problem` says why, else it is "".

        Args:
            image_size: height and width of the frame, pixels.
            frame_id: of the frame.
        """
        try:
            camera, pose = self._camera(image_size), self._pose_of(frame_id)
            known = self._ground
            if known is None or (known.camera, known.pose, known.max_range_m, known.ground_z_m) != (
                camera,
                pose,
                limits.max_range_m,
                limits.z_m,
            ):
                self._ground = GroundProjection(camera, pose, limits.max_range_m, limits.z_m)
        except CameraError as error:
            self._ground = None
            self.problem = str(error)
            return None
        self.problem = ""
        return self._ground

    def _camera(self, image_size: tuple[int, int]) -> CameraModel:
        info = self._info
        if info is None:
            raise CameraError(f"nothing has come on {self._node.resolve_topic_name(self._topic)}; remap {self._topic}")
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

    def _pose_of(self, frame_id: str) -> CameraPose:
        if self._mounting is not None:
            return self._mounting
        now = time.monotonic()
        if self._pose is None or self._pose[0] != frame_id or now - self._pose[1] > POSE_EVERY_S:
            if self._transforms is None:
                raise CameraError("the camera's pose is not known; set mounting.height_m")
            self._pose = None
            self._pose = (frame_id, now, self._transforms.pose(frame_id))
        return self._pose[2]

    def ground_map(
        self,
        engine_size: tuple[int, int],
        drivable_ids: frozenset[int],
        hysteresis: float,
        ego_mask: NDArray[np.bool_] | None,
        grid: GridSettings,
    ) -> GroundMap | None:
        """What is made of the last `ground` and these settings; made anew only when one of them changes."""
        ground = self._ground
        if ground is None:
            return None
        key = (ground, engine_size, drivable_ids, hysteresis, grid)
        if self._map is None or self._map[0] != key:
            self._map = (key, GroundMap(ground, engine_size, drivable_ids, hysteresis, ego_mask, grid))
        return self._map[1]
