"""Where the vehicle was at a frame's stamp: from odometry, or from tf2, which is not installed everywhere.

The executor's thread takes poses, and the inference thread waits for the one that a frame needs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Protocol

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time

from ros_ood_perception.messages.vehicle_poses import add_odometry
from ros_ood_perception.node.health.logged_kinds import LoggedKinds
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.obstacles.motion import (
    FrameMotion,
    JumpWatch,
    MotionError,
    MotionSettings,
    PlanarPose,
    PoseHistory,
)

QUEUED_POSES = 200
"""At 200 Hz the poses of a second, in which the executor's thread may be busy."""
LOOK_PERIOD_S = 0.002
"""tf2 is asked this often: Python cannot wait on its buffer from another thread."""


class VehicleMotion(Protocol):
    """Tells where the vehicle was."""

    def at(self, camera: int, stamp_ns: int, received_at: float) -> FrameMotion:
        """The vehicle's pose at a frame's stamp. It may wait. The inference thread calls it.

        Args:
            camera: number of the frame's camera.
            received_at: time of the frame's arrival on the monotonic clock, seconds.
        """

    def counts(self) -> Mapping[str, int]:
        """Kind of a refused pose to number of such poses."""

    def close(self) -> None:
        """Stop listening."""


class OdometryMotion:
    """From `nav_msgs/Odometry`."""

    def __init__(self, node: Node, settings: MotionSettings) -> None:
        self._node = node
        self._history = PoseHistory(settings.odometry_topic, settings.wait_s, settings.max_speed_mps)
        self._arrived = threading.Condition()
        self._kinds = kinds = LoggedKinds(node.get_logger().warning)
        history, arrived = self._history, self._arrived

        # It does not refer to this object, whose memory would else be freed late: the subscription keeps it.
        def take(message: Odometry) -> None:
            with arrived:
                kind, text = add_odometry(history, message, time.monotonic_ns())
                arrived.notify_all()
            if kind:
                kinds.add(kind, text)

        self._subscription = node.create_subscription(
            Odometry,
            settings.odometry_topic,
            take,
            QoSProfile(depth=QUEUED_POSES, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def at(self, camera: int, stamp_ns: int, received_at: float) -> FrameMotion:
        """See `VehicleMotion`."""
        received_ns = round(received_at * 1e9)
        deadline_ns = self._history.deadline_ns(received_ns)
        with self._arrived:
            while (found := self._history.look(stamp_ns, received_ns, time.monotonic_ns())) is None:
                self._arrived.wait(max(deadline_ns - time.monotonic_ns(), 0) / 1e9)
        return found

    def counts(self) -> Mapping[str, int]:
        """See `VehicleMotion`."""
        return self._kinds.counts()

    def close(self) -> None:
        """See `VehicleMotion`."""
        self._node.destroy_subscription(self._subscription)


class TransformMotion:
    """From tf2, which interpolates between the transforms around the stamp."""

    def __init__(self, node: Node, settings: MotionSettings, transforms: Transforms, cameras: int) -> None:
        self._settings = settings
        self._transforms = transforms
        self._kinds = LoggedKinds(node.get_logger().warning)
        self._jumps = [JumpWatch(settings.max_speed_mps) for _ in range(cameras)]

    def at(self, camera: int, stamp_ns: int, received_at: float) -> FrameMotion:
        """See `VehicleMotion`."""
        jumps, frame = self._jumps[camera], self._settings.fixed_frame
        deadline = received_at + self._settings.wait_s
        while True:
            transform, problem = self._transforms.at(frame, Time(nanoseconds=stamp_ns))
            if transform is not None or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_PERIOD_S)
        if transform is None:
            return FrameMotion(None, problem=f"no transform to '{frame}' at the frame's stamp ({problem})")
        place, turn = transform.translation, transform.rotation
        try:
            pose = PlanarPose.from_transform((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        except MotionError as error:
            self._kinds.add("pose unusable", f"the pose in '{frame}' {error}; obstacles are followed anew")
            jumps.epoch += 1
            return FrameMotion(None, problem=f"the pose in '{frame}' {error}")
        if jumps.see(stamp_ns, pose):
            self._kinds.add(
                "pose jumped",
                f"the pose in '{frame}' moved faster than ground.max_speed_mps ({self._settings.max_speed_mps:g} m/s), "
                "or stamps went back; obstacles are followed anew",
            )
        return FrameMotion(pose, jumps.epoch)

    def counts(self) -> Mapping[str, int]:
        """See `VehicleMotion`."""
        return self._kinds.counts()

    def close(self) -> None:
        """See `VehicleMotion`: the transforms are closed by their owner."""


def vehicle_motion(
    node: Node, settings: MotionSettings, transforms: Transforms | None, cameras: int
) -> VehicleMotion | None:
    """What tells where the vehicle is; None: nothing does.

    Args:
        transforms: given where `settings` name a fixed frame.
        cameras: number of cameras.
    """
    if settings.odometry_topic:
        return OdometryMotion(node, settings)
    if settings.fixed_frame and transforms is not None:
        return TransformMotion(node, settings, transforms, cameras)
    return None
