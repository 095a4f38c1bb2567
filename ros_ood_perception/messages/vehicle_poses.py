"""Messages that tell where the vehicle is, into a `PoseHistory`. Knows no ROS."""

from __future__ import annotations

from typing import Any

from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.motion import PoseHistory


def add_odometry(history: PoseHistory, message: Any, arrived_ns: int) -> tuple[str, str]:
    """Take a `nav_msgs/Odometry`; returns what is wrong with it, see `PoseHistory.add`."""
    pose = message.pose.pose
    return _add(history, message.header, pose.position, pose.orientation, arrived_ns)


def add_transform(history: PoseHistory, transform: Any, arrived_ns: int) -> tuple[str, str]:
    """Take a `geometry_msgs/TransformStamped`; returns what is wrong with it, see `PoseHistory.add`."""
    found = transform.transform
    return _add(history, transform.header, found.translation, found.rotation, arrived_ns)


def _add(history: PoseHistory, header: Any, place: Any, turn: Any, arrived_ns: int) -> tuple[str, str]:
    translation, quaternion = (place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w)
    return history.add(stamp_ns(header.stamp), translation, quaternion, arrived_ns)
