"""Attaches to each frame of a recording where the vehicle was, while the frames stay in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ros_ood_perception.obstacles.motion import FrameMotion
from ros_ood_perception.replay.transforms.recorded_motion import MotionSource

Item = TypeVar("Item")


@dataclass(frozen=True)
class RecordedPose:
    """A message that tells where the vehicle is, and when it was recorded, nanoseconds."""

    message: Any
    time_ns: int


@dataclass(frozen=True)
class AwaitedFrame:
    """The stamp of a frame and when it was recorded, nanoseconds."""

    stamp_ns: int
    time_ns: int


END_OF_RECORDING_NS = 2**63
"""After every time of a recording."""


def with_motion(
    items: Iterator[RecordedPose | tuple[Item, AwaitedFrame | None]], source: MotionSource
) -> Iterator[tuple[Item, FrameMotion | None]]:
    """The other items in their order, each frame with where the vehicle was.

    A frame, and what follows it, is held back until the pose after it has come, or cannot come any more.

    Args:
        items: poses, and other items with what to wait for; None: for nothing. In order of time.
        source: takes the poses.
    """
    held: deque[tuple[Item, AwaitedFrame | None]] = deque()

    def released(now_ns: int) -> Iterator[tuple[Item, FrameMotion | None]]:
        while held:
            item, frame = held[0]
            motion = None
            if frame is not None:
                motion = source.look(frame.stamp_ns, frame.time_ns, now_ns)
                if motion is None:
                    return
            held.popleft()
            yield item, motion

    now_ns = 0
    for item in items:
        if isinstance(item, RecordedPose):
            source.take(item.message, item.time_ns)
            now_ns = item.time_ns
        else:
            held.append(item)
            now_ns = now_ns if item[1] is None else item[1].time_ns
        yield from released(now_ns)
    yield from released(END_OF_RECORDING_NS)
