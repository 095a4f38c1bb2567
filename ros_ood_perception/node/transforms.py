"""Where a camera is on the vehicle, from tf2. tf2_ros is not installed everywhere."""

from __future__ import annotations

import inspect
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from ros_ood_perception.camera.camera_model import CameraError
from ros_ood_perception.obstacles.ground import CameraPose


class Transforms:
    """Listens to /tf_static (and to /tf, where tf2_ros cannot leave it: a joint that moves has its latest place then).

    Args:
        node: that listens.
        base_frame: frame of the vehicle.
    """

    def __init__(self, node: Node, base_frame: str) -> None:
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
            )
            return
        self._buffer = Buffer()
        # Cameras are bolted on: the wheels' transforms, hundreds a second, would cost more than the network's result.
        self._static_only = "static_only" in inspect.signature(TransformListener).parameters
        static = {"static_only": True} if self._static_only else {}
        self._listener = TransformListener(self._buffer, node, **static)

    def pose(self, camera_frame: str) -> CameraPose:
        """Of a camera's optical frame in the vehicle's frame.

        Raises:
            CameraError: not known; the message says why.
        """
        if self._buffer is None:
            raise CameraError("tf2_ros is not installed; set the parameters mounting.height_m, mounting.pitch_deg, ...")
        from tf2_ros import TransformException

        try:
            found = self._buffer.lookup_transform(self._base_frame, camera_frame, Time()).transform
        except TransformException as error:
            # A joint that moves: everybody else's tf finds this transform.
            only = " (a joint between them that moves is on /tf, which is not used)" if self._static_only else ""
            raise CameraError(
                f"no transform from '{camera_frame[:60]}' to '{self._base_frame}' ({error}); publish it on "
                f"/tf_static{only}, or set mounting.height_m"
            ) from error
        place, turn = found.translation, found.rotation
        return CameraPose.from_transform((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
