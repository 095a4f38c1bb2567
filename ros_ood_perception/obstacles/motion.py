"""Where the vehicle was when a frame was taken: poses over time, checked and interpolated. Knows no ROS."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SAMPLES = 4096
"""Poses that are kept: four seconds at 1 kHz."""
MAX_SAMPLE_GAP_S = 1.0
"""Between poses farther apart nothing is interpolated: a vehicle may have turned."""
SILENT_S = 5.0
"""After this time without a pose, frames do not wait for one."""
LEAST_UPRIGHT = 0.7
"""Cosine of the largest tilt: 45 degrees, steeper than any road."""
LARGEST_COORDINATE_M = 1e7
"""No place on Earth is farther from another, in UTM coordinates too."""
SECONDS_PER_NANOSECOND = 1e-9


class MotionError(ValueError):
    """A pose of the vehicle that cannot be used. The message is a sentence without its subject."""


@dataclass(frozen=True)
class MotionSettings:
    """What tells where the vehicle is. Without a topic and a frame nothing does.

    Attributes:
        odometry_topic: full name of a topic of `nav_msgs/Odometry`; empty: none.
        fixed_frame: frame in tf in which the vehicle moves; empty: tf is not used.
        wait_s: how long after a frame the pose at or after its stamp may come, seconds.
        max_speed_mps: a pose that would need more is a jump.
    """

    odometry_topic: str = ""
    fixed_frame: str = ""
    wait_s: float = 0.1
    max_speed_mps: float = 60.0

    @property
    def is_given(self) -> bool:
        """Whether something tells where the vehicle is."""
        return bool(self.odometry_topic or self.fixed_frame)


@dataclass(frozen=True)
class PlanarPose:
    """The vehicle's frame in the fixed frame, on the plane: x, y in metres, yaw in radians, positive to the left."""

    x: float
    y: float
    yaw: float

    @classmethod
    def from_transform(cls, translation: Sequence[float], quaternion: Sequence[float]) -> PlanarPose:
        """Of a pose in space. Its height, pitch and roll are left out.

        Args:
            translation: x, y, z, metres.
            quaternion: x, y, z, w, of length 1.

        Raises:
            MotionError: a value is not finite or absurd, or the quaternion has another length.
        """
        x, y, _ = translation
        if not all(abs(value) <= LARGEST_COORDINATE_M for value in translation):  # NaN fails too
            raise MotionError(f"has the position {tuple(translation)}, which is no place in metres")
        i, j, k, w = quaternion
        length = math.sqrt(i * i + j * j + k * k + w * w)
        if not abs(length - 1) < 0.01:
            raise MotionError(f"has the rotation {tuple(quaternion)} of length {length:g}; a quaternion has length 1")
        upright = (w * w - i * i - j * j + k * k) / (length * length)
        if upright < LEAST_UPRIGHT:
            raise MotionError(
                f"is tilted by {math.degrees(math.acos(max(upright, -1.0))):.0f} degrees; the frame of a vehicle on a "
                "road is upright"
            )
        return cls(float(x), float(y), math.atan2(2 * (w * k + i * j), w * w + i * i - j * j - k * k))

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(2, 2): directions of the vehicle's frame to those of the fixed frame."""
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[cosine, -sine], [sine, cosine]])

    def of(self, child: PlanarPose) -> PlanarPose:
        """The pose of a frame that is given in this one, in this one's own fixed frame."""
        x, y = (self.rotation @ (child.x, child.y)).tolist()
        return PlanarPose(self.x + x, self.y + y, self.yaw + child.yaw)

    def between(self, other: PlanarPose, share: float) -> PlanarPose:
        """The pose at `share`, 0 to 1, of the way to another: linear, and by the smaller angle."""
        turn = math.remainder(other.yaw - self.yaw, 2 * math.pi)
        return PlanarPose(
            self.x + share * (other.x - self.x), self.y + share * (other.y - self.y), self.yaw + share * turn
        )

    def distance_m(self, other: PlanarPose) -> float:
        """Distance of the two origins, metres."""
        return math.hypot(other.x - self.x, other.y - self.y)


@dataclass(frozen=True)
class FrameMotion:
    """Where the vehicle was at a frame's stamp.

    Attributes:
        pose: in the fixed frame; None: not known, and `problem` says why.
        epoch: poses of different epochs must not be compared: in between, the fixed frame jumped or time went back.
            Without meaning if there is no pose.
        problem: empty if the pose is known.
    """

    pose: PlanarPose | None
    epoch: int = 0
    problem: str = ""


@dataclass(frozen=True)
class _Sample:
    stamp_ns: int
    arrived_ns: int
    pose: PlanarPose
    epoch: int


class JumpWatch:
    """Counts epochs where only the poses at the frames are known: those of tf2.

    Args:
        max_speed_mps: a pose that would need more is a jump.
    """

    def __init__(self, max_speed_mps: float) -> None:
        self._max_speed_mps = max_speed_mps
        self._last: tuple[int, PlanarPose] | None = None
        self.epoch = 0

    def see(self, stamp_ns: int, pose: PlanarPose) -> bool:
        """Take the pose at the next frame; returns whether it jumped, so that a new epoch has begun."""
        last, self._last = self._last, (stamp_ns, pose)
        if last is None:
            return False
        step_s = (stamp_ns - last[0]) * SECONDS_PER_NANOSECOND
        jumped = step_s < 0 or (
            step_s <= MAX_SAMPLE_GAP_S and last[1].distance_m(pose) > self._max_speed_mps * step_s + 1e-6
        )
        self.epoch += jumped
        return jumped


class PoseHistory:
    """The last poses of the vehicle, and the one at a frame's stamp. Not thread-safe.

    The pose at a stamp is interpolated between the last pose before it and the first one at or after it. Whether the
    latter came in time is decided by its arrival: at most `wait_s` after the frame's. So the answer is the same however
    long a frame was in inference, and the same in a replay, where messages arrive when they were recorded.

    Args:
        source: for messages, such as the topic.
        wait_s: how long after a frame the pose at or after its stamp may come.
        max_speed_mps: a pose that would need more is a jump: a relocalisation, or a fault.

    Attributes:
        refused: kind of a refused pose to number of such poses. Each one begins a new epoch.

    >>> history = PoseHistory("/odometry", wait_s=0.1)
    >>> _ = history.add(0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), arrived_ns=1)
    >>> history.look(50_000_000, received_ns=50_000_000, now_ns=50_000_000)  # the next pose may still come
    >>> _ = history.add(100_000_000, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), arrived_ns=100_000_000)
    >>> history.look(50_000_000, received_ns=50_000_000, now_ns=100_000_000).pose
    PlanarPose(x=0.5, y=0.0, yaw=0.0)
    """

    def __init__(self, source: str, wait_s: float = 0.1, max_speed_mps: float = 60.0) -> None:
        self._source = source
        self._wait_ns = round(wait_s * 1e9)
        self._max_speed_mps = max_speed_mps
        self._samples: list[_Sample] = []
        self._epoch = 0
        self.refused: Counter[str] = Counter()

    def add(
        self, stamp_ns: int, translation: Sequence[float], quaternion: Sequence[float], arrived_ns: int
    ) -> tuple[str, str]:
        """Take the next pose.

        Args:
            stamp_ns: its stamp, nanoseconds.
            translation: x, y, z of the vehicle's frame in the fixed one, metres.
            quaternion: x, y, z, w.
            arrived_ns: when it came, nanoseconds of any clock that does not go back.

        Returns:
            Kind and sentence of what is wrong with it, both empty if nothing is. After a wrong one a new epoch begins.
        """
        last = self._samples[-1] if self._samples else None
        if last is not None and stamp_ns == last.stamp_ns:
            # Filters publish an unchanged estimate again. The first of them counts.
            return "", ""
        try:
            pose = PlanarPose.from_transform(translation, quaternion)
        except MotionError as error:
            return self._refuse("pose unusable", f"a pose on {self._source} {error}; it is not used")
        problem = ("", "")
        if last is not None:
            step_s = (stamp_ns - last.stamp_ns) * SECONDS_PER_NANOSECOND
            moved_m = last.pose.distance_m(pose)
            if step_s < 0:
                self._samples.clear()
                problem = self._refuse("pose stamp went back", f"a stamp on {self._source} is {-step_s:.3f} s back")
            elif step_s <= MAX_SAMPLE_GAP_S and moved_m > self._max_speed_mps * step_s:
                problem = self._refuse(
                    "pose jumped",
                    f"the pose on {self._source} moved {moved_m:.2f} m in {step_s:.3f} s, faster than "
                    f"ground.max_speed_mps ({self._max_speed_mps:g} m/s): a relocalisation, or a fault",
                )
        self._samples.append(_Sample(stamp_ns, arrived_ns, pose, self._epoch))
        if len(self._samples) > MAX_SAMPLES:
            del self._samples[: MAX_SAMPLES // 4]
        return problem

    def _refuse(self, kind: str, text: str) -> tuple[str, str]:
        self._epoch += 1
        self.refused[kind] += 1
        return kind, f"{text}; obstacles are followed anew"

    def look(self, stamp_ns: int, received_ns: int, now_ns: int) -> FrameMotion | None:
        """The pose at a frame's stamp; None: it may still come, so ask again after the next pose, or at `deadline_ns`.

        Args:
            stamp_ns: the frame's stamp, nanoseconds.
            received_ns: when the frame came, on the clock of `arrived_ns`.
            now_ns: on the same clock.
        """
        deadline_ns = self.deadline_ns(received_ns)
        at = bisect_left(self._samples, stamp_ns, key=lambda sample: sample.stamp_ns)
        if at < len(self._samples) and self._samples[at].arrived_ns <= deadline_ns:
            return self._interpolated(stamp_ns, at)
        if at < len(self._samples) or now_ns >= deadline_ns:
            return self._without(
                f"no pose with a stamp at or after the frame's came on {self._source} within ground.motion_wait_s "
                f"({self._wait_ns * SECONDS_PER_NANOSECOND:g} s) of the frame"
            )
        if not self._samples or received_ns - self._samples[-1].arrived_ns > SILENT_S * 1e9:
            return self._without(f"nothing comes on {self._source}")
        return None

    def deadline_ns(self, received_ns: int) -> int:
        """Until when a pose for a frame may come, on the clock of `received_ns`."""
        return received_ns + self._wait_ns

    def _interpolated(self, stamp_ns: int, at: int) -> FrameMotion:
        after = self._samples[at]
        if after.stamp_ns == stamp_ns:
            return FrameMotion(after.pose, after.epoch)
        if at == 0:
            return self._without(f"the first pose on {self._source} is after the frame")
        before = self._samples[at - 1]
        if before.epoch != after.epoch:
            return self._without(f"a pose on {self._source} was refused or jumped at the frame")
        gap_ns = after.stamp_ns - before.stamp_ns
        if gap_ns > MAX_SAMPLE_GAP_S * 1e9:
            return self._without(f"the poses on {self._source} around the frame are {gap_ns / 1e9:.2f} s apart")
        return FrameMotion(before.pose.between(after.pose, (stamp_ns - before.stamp_ns) / gap_ns), after.epoch)

    def _without(self, problem: str) -> FrameMotion:
        return FrameMotion(None, problem=problem)
