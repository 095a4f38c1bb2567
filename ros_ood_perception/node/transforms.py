"""Poses of cameras in the vehicle's frame, from tf2. tf2_ros is not installed everywhere."""

from __future__ import annotations

import inspect
import time
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.obstacles.ground import CameraPose

POSE_EVERY_S = 1.0
"""Seconds until tf2 is asked again. A new pose of a camera takes effect within that time."""


class Transforms:
    """Listens to /tf_static. Where tf2_ros has no `static_only`, it listens to /tf too and takes the latest transform.

    Args:
        node: the node that listens.
        base_frame: frame of the vehicle.
        moving: listen to /tf as well, for the vehicle's own motion.
    """

    def __init__(self, node: Node, base_frame: str, moving: bool = False) -> None:
        self._base_frame = base_frame
        self._buffer: Any = None
        self._listener: Any = None
        self._static_only = False
        try:
            from tf2_ros import Buffer, TransformListener
        except ImportError:
            node.get_logger().warning(
                "tf2_ros is not installed: the camera's pose can only come from the parameters mounting.height_m, "
                "mounting.pitch_deg and so on; without them obstacles are not placed on the ground"
                + ("; and ground.fixed_frame has no effect, use ground.odometry_topic" if moving else "")
            )
            return
        self._buffer = Buffer()
        # Cameras are bolted on, and hundreds of transforms a second on /tf would cost more than publishing results.
        self._static_only = not moving and "static_only" in inspect.signature(TransformListener).parameters
        static = {"static_only": True} if self._static_only else {}
        self._listener = TransformListener(self._buffer, node, **static)

    def pose(self, camera_frame: str) -> CameraPose:
        """The pose of a camera's optical frame in the vehicle's frame.

        Raises:
            CameraError: it is not known; the message says why.
        """
        if self._buffer is None:
            raise CameraError("tf2_ros is not installed; set the parameters mounting.height_m, mounting.pitch_deg, ...")
        from tf2_ros import TransformException

        try:
            found = self._buffer.lookup_transform(self._base_frame, camera_frame, Time()).transform
        except TransformException as error:
            # Other nodes may find this transform: they listen to /tf.
            only = " (a joint between them that moves is on /tf, which is not used)" if self._static_only else ""
            raise CameraError(
                f"no transform from '{camera_frame[:60]}' to '{self._base_frame}' ({error}); publish it on "
                f"/tf_static{only}, or set mounting.height_m"
            ) from error
        place, turn = found.translation, found.rotation
        return CameraPose.from_transform((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))

    def at(self, fixed_frame: str, stamp: Time) -> tuple[Any, str]:
        """The vehicle's `geometry_msgs/Transform` in a fixed frame at a stamp, or None, and why it is not known (yet).

        It does not wait.
        """
        if self._buffer is None:
            return None, "tf2_ros is not installed; set ground.odometry_topic instead of ground.fixed_frame"
        from tf2_ros import TransformException

        try:
            return self._buffer.lookup_transform(fixed_frame, self._base_frame, stamp).transform, ""
        except TransformException as error:
            return None, str(error)

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()


class RecentPose:
    """The pose of one camera, looked up again every `POSE_EVERY_S`."""

    def __init__(self, transforms: Transforms) -> None:
        self._transforms = transforms
        self._known: tuple[str, float, CameraPose] | None = None

    def __call__(self, frame_id: str) -> CameraPose:
        """See `Transforms.pose`."""
        now = time.monotonic()
        if self._known is None or self._known[0] != frame_id or now - self._known[1] > POSE_EVERY_S:
            self._known = None
            self._known = (frame_id, now, self._transforms.pose(frame_id))
        return self._known[2]
