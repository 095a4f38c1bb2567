"""Where the vehicle was at each frame of a recording, by the rule of the node: from odometry, or from `/tf`."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Protocol

from ros_ood_perception.messages.vehicle_poses import add_odometry, add_transform
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.obstacles.motion import FrameMotion, MotionSettings, PlanarPose, PoseHistory
from ros_ood_perception.replay.transforms.static_transforms import MAX_CHAIN, StaticTransforms, plain

ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
TRANSFORMS_TYPE = "tf2_msgs/msg/TFMessage"
MOVING = "/tf"
MOST_MOVING_FRAMES = 1024
"""Frames of `/tf` that are followed; a robot has a hundred."""


class MotionSource(Protocol):
    """Gives the vehicle's pose at a stamp.

    Attributes:
        topic: whose messages it takes.
        kind: their type.
        refused: kind of a refused pose to number of such poses.
        first_refused: kind of a refused pose to the sentence about the first one.
    """

    topic: str
    kind: str
    first_refused: dict[str, str]

    @property
    def refused(self) -> Counter[str]: ...

    def take(self, message: Any, time_ns: int) -> None:
        """Take the next message, recorded at this time."""

    def look(self, stamp_ns: int, received_ns: int, now_ns: int) -> FrameMotion | None:
        """See `PoseHistory.look`."""


class RecordedOdometry:
    """From `nav_msgs/Odometry`."""

    kind = ODOMETRY_TYPE

    def __init__(self, settings: MotionSettings) -> None:
        self.topic = settings.odometry_topic
        self._history = PoseHistory(self.topic, settings.wait_s, settings.max_speed_mps)
        self.first_refused: dict[str, str] = {}

    @property
    def refused(self) -> Counter[str]:
        """See `MotionSource`."""
        return self._history.refused

    def take(self, message: Any, time_ns: int) -> None:
        """See `MotionSource`."""
        kind, text = add_odometry(self._history, message, time_ns)
        if kind:
            self.first_refused.setdefault(kind, text)

    def look(self, stamp_ns: int, received_ns: int, now_ns: int) -> FrameMotion | None:
        """See `MotionSource`."""
        return self._history.look(stamp_ns, received_ns, now_ns)


class RecordedTransforms:
    """From `/tf`: the chain of frames from the vehicle's to the fixed one, each interpolated at the stamp.

    Args:
        base_frame: of the vehicle.
        static: transforms of `/tf_static`, which may be part of the chain.
    """

    kind = TRANSFORMS_TYPE
    topic = MOVING

    def __init__(self, settings: MotionSettings, base_frame: str, static: StaticTransforms) -> None:
        self._settings = settings
        self._base_frame, self._fixed_frame = plain(base_frame), plain(settings.fixed_frame)
        self._static = static
        self._moving: dict[str, tuple[str, PoseHistory]] = {}
        self.first_refused: dict[str, str] = {}

    @property
    def refused(self) -> Counter[str]:
        """See `MotionSource`. Only of frames between the vehicle's and the fixed one."""
        found: Counter[str] = Counter()
        for frame in self._chain():
            if frame in self._moving:
                found += self._moving[frame][1].refused
        return found

    def take(self, message: Any, time_ns: int) -> None:
        """See `MotionSource`."""
        for transform in message.transforms:
            child, parent = plain(transform.child_frame_id), plain(transform.header.frame_id)
            known = self._moving.get(child)
            if known is None or known[0] != parent:
                if known is None and len(self._moving) >= MOST_MOVING_FRAMES:
                    continue
                wait_s, speed = self._settings.wait_s, self._settings.max_speed_mps
                known = self._moving[child] = (parent, PoseHistory(f"{MOVING} ('{child[:60]}')", wait_s, speed))
            kind, text = add_transform(known[1], transform, time_ns)
            if kind and child in self._chain():
                self.first_refused.setdefault(kind, text)

    def look(self, stamp_ns: int, received_ns: int, now_ns: int) -> FrameMotion | None:
        """See `MotionSource`."""
        chain = self._chain()
        top = self._parent(chain[-1]) if chain else self._base_frame
        if top != self._fixed_frame:
            if now_ns < received_ns + round(self._settings.wait_s * 1e9):
                return None
            return FrameMotion(
                None,
                problem=f"no transform from '{self._base_frame}' to '{self._fixed_frame}' on {MOVING} and /tf_static "
                f"before the frame: they end at '{top[:60]}'",
            )
        pose, epoch = PlanarPose(0.0, 0.0, 0.0), 0
        for frame in chain:
            if frame not in self._moving:
                pose = _planar(self._static.parent(frame)[1]).of(pose)
                continue
            found = self._moving[frame][1].look(stamp_ns, received_ns, now_ns)
            if found is None or found.pose is None:
                return found
            pose, epoch = found.pose.of(pose), epoch + found.epoch
        return FrameMotion(pose, epoch)

    def _chain(self) -> list[str]:
        """The frames below the fixed one, from the vehicle's upwards, as far as their parents are known."""
        chain: list[str] = []
        frame = self._base_frame
        while frame != self._fixed_frame and len(chain) < MAX_CHAIN:
            if not (frame in self._moving or self._static.knows(frame)):
                break
            chain.append(frame)
            frame = self._parent(frame)
        return chain

    def _parent(self, frame: str) -> str:
        return self._moving[frame][0] if frame in self._moving else self._static.parent(frame)[0]


def _planar(pose: CameraPose) -> PlanarPose:
    return PlanarPose(pose.translation[0], pose.translation[1], math.atan2(pose.rotation[3], pose.rotation[0]))


def motion_source(settings: MotionSettings, base_frame: str, static: StaticTransforms) -> MotionSource | None:
    """What tells where the vehicle was; None: nothing does."""
    if settings.odometry_topic:
        return RecordedOdometry(settings)
    return RecordedTransforms(settings, base_frame, static) if settings.fixed_frame else None


def refused_poses(source: MotionSource) -> list[str]:
    """A sentence for each kind of pose that was refused."""
    return [
        f"{count} times '{kind}': {source.first_refused.get(kind, '')}"
        for kind, count in sorted(source.refused.items())
    ]
