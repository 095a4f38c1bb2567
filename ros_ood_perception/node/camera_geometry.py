"""The geometry of one camera, kept up to date from camera_info and tf2."""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from ros_ood_perception.camera.camera_model import CameraError
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.obstacles.camera_geometry import CameraGeometry
from ros_ood_perception.obstacles.ground import CameraPose

POSE_EVERY_S = 1.0
"""How often tf2 is asked again: a camera that was turned is seen within that time."""


class SubscribedGeometry(CameraGeometry):
    """The executor's thread receives camera_info; the inference thread asks for the ground. Only references are shared.

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
        super().__init__(
            self._current_pose,
            rectified,
            lambda: f"nothing has come on {node.resolve_topic_name(topic)}; remap {topic}",
        )
        self._node = node
        self._topic = topic
        self._mounting = mounting
        self._transforms = transforms
        self._pose: tuple[str, float, CameraPose] | None = None
        self._subscription: Subscription[CameraInfo] | None = None

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
        self.info = info

    def _current_pose(self, frame_id: str) -> CameraPose:
        if self._mounting is not None:
            return self._mounting
        now = time.monotonic()
        if self._pose is None or self._pose[0] != frame_id or now - self._pose[1] > POSE_EVERY_S:
            if self._transforms is None:
                raise CameraError("the camera's pose is not known; set mounting.height_m")
            self._pose = None
            self._pose = (frame_id, now, self._transforms.pose(frame_id))
        return self._pose[2]
