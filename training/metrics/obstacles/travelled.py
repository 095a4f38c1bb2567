"""How far the vehicle drove, from the odometry or the transforms of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.recordings.bag import Bag, BagError
from training.metrics.obstacles.truth import ObstacleTruthError

ODOMETRY_TYPE, TRANSFORMS_TYPE = "nav_msgs/msg/Odometry", "tf2_msgs/msg/TFMessage"
SMOOTH_FRAME = "odom"
"""By REP 105 the vehicle does not jump in it. In others, such as map, a correction would count as driving."""
LEAST_STEP_M = 0.1
"""Shorter movements are added up first, so that the noise of a vehicle at rest is no distance."""
MOST_FRAMES = 64
"""Of a chain of transforms; a longer one is taken for a circle."""


@dataclass(frozen=True)
class Travelled:
    """The way of the vehicle.

    Attributes:
        source: topic that it comes from.
        stamps: (N,) int64, nanoseconds, ascending; at least two.
        metres: (N,) driven since the first of them.
    """

    source: str
    stamps: NDArray[np.int64]
    metres: NDArray[np.float64]

    def between(self, begin_ns: int, end_ns: int) -> float | None:
        """Metres driven between two times; None where the way is not known at both."""
        if begin_ns < self.stamps[0] or end_ns > self.stamps[-1]:
            return None
        first = self.stamps[0]
        begin, end = np.interp(np.array([begin_ns - first, end_ns - first]), self.stamps - first, self.metres)
        return float(end - begin)


def travelled(bag: Bag, base_frame: str, topic: str | None = None) -> tuple[Travelled | None, str]:
    """The way of the vehicle in a recording.

    Args:
        base_frame: the vehicle's frame, for transforms.
        topic: of the odometry; None: the only one, or else `/tf`.

    Returns:
        The way, and ""; or None and a sentence why it is not known.

    Raises:
        ObstacleTruthError: the given topic is no odometry of the bag.
    """
    topics = sorted(name for name, kind in bag.types.items() if kind == ODOMETRY_TYPE and bag.counts.get(name))
    if topic is not None and topic not in topics:
        raise ObstacleTruthError(
            f"{bag.path}: has no odometry on {topic}; it has {', '.join(topics) or 'none'} ({ODOMETRY_TYPE})"
        )
    if topic is None and len(topics) > 1:
        return None, f"{bag.path} has several odometries; choose with --odometry: {', '.join(topics)}"
    if topic is not None or topics:
        chosen = topic or topics[0]
        return _way(chosen, list(_odometry(bag, chosen)), bag)
    tf_topics = [name for name, kind in bag.types.items() if kind == TRANSFORMS_TYPE]
    if not any(name.endswith("/tf") for name in tf_topics):
        return None, f"{bag.path} has no odometry and no /tf"
    return _way("/tf", list(_transforms(bag, tf_topics, base_frame)), bag)


def _way(source: str, places: list[tuple[int, float, float]], bag: Bag) -> tuple[Travelled | None, str]:
    ordered = sorted({stamp: (x, y) for stamp, x, y in places}.items())
    if len(ordered) < 2:
        return None, f"{bag.path}: {source} gives fewer than two places of the vehicle"
    stamps = np.array([stamp for stamp, _ in ordered], np.int64)
    metres, here = [0.0], np.array(ordered[0][1])
    for _, place in ordered[1:]:
        step = float(np.hypot(*(np.array(place) - here)))
        if step >= LEAST_STEP_M:
            here = np.array(place)
        metres.append(metres[-1] + (step if step >= LEAST_STEP_M else 0.0))
    return Travelled(source, stamps, np.array(metres)), ""


def _odometry(bag: Bag, topic: str) -> Iterator[tuple[int, float, float]]:
    for raw in bag.messages([topic]):
        try:
            message = bag.deserialize(raw)
        except BagError:
            continue
        place = message.pose.pose.position
        if np.isfinite((place.x, place.y)).all():
            yield stamp_ns(message.header.stamp), float(place.x), float(place.y)


def _transforms(bag: Bag, topics: list[str], base_frame: str) -> Iterator[tuple[int, float, float]]:
    """Places of the vehicle in `odom`, or else in the topmost frame, each time a transform above it changes."""
    parents: dict[str, tuple[str, CameraPose]] = {}
    for raw in bag.messages(topics):
        try:
            message = bag.deserialize(raw)
        except BagError:
            continue
        changed, stamp = set(), 0
        for transform in message.transforms:
            place, turn = transform.transform.translation, transform.transform.rotation
            try:
                pose = CameraPose.from_transform((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
            except CameraError:
                continue
            child = transform.child_frame_id.removeprefix("/")
            parents[child] = (transform.header.frame_id.removeprefix("/"), pose)
            changed.add(child)
            stamp = max(stamp, stamp_ns(transform.header.stamp))
        chain = _chain(parents, base_frame)
        if raw.topic.endswith("/tf") and changed & set(chain):
            x, y, _ = _place(parents, chain)
            yield stamp, x, y


def _chain(parents: dict[str, tuple[str, CameraPose]], base_frame: str) -> list[str]:
    """The frames from the vehicle's up to, and without, the one in which its way is taken."""
    chain: list[str] = []
    frame = base_frame
    while frame in parents and frame != SMOOTH_FRAME and len(chain) < MOST_FRAMES:
        chain.append(frame)
        frame = parents[frame][0]
    return chain


def _place(parents: dict[str, tuple[str, CameraPose]], chain: list[str]) -> tuple[float, float, float]:
    place = np.zeros(3)
    for frame in chain:
        pose = parents[frame][1]
        place = np.reshape(pose.rotation, (3, 3)) @ place + pose.translation
    x, y, z = place.tolist()
    return x, y, z
