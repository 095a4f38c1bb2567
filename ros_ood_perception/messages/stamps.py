"""Times of messages: `builtin_interfaces/Time` to nanoseconds and back."""

from __future__ import annotations

from typing import Any, Protocol

from ros_ood_perception.messages.message_factory import NewMessage

NANOSECONDS_PER_SECOND = 1_000_000_000


class Stamp(Protocol):
    """`builtin_interfaces/Time`: the class of rclpy or that of `rosbags`."""

    sec: int
    nanosec: int


def stamp_ns(stamp: Stamp) -> int:
    """Nanoseconds of a stamp.

    >>> from types import SimpleNamespace
    >>> stamp_ns(SimpleNamespace(sec=3, nanosec=500))
    3000000500
    """
    return stamp.sec * NANOSECONDS_PER_SECOND + stamp.nanosec


def stamp_message(new: NewMessage, time_ns: int) -> Any:
    """`builtin_interfaces/Time` of nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, NANOSECONDS_PER_SECOND)
    return new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
