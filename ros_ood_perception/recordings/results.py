"""The results in a bag, frame by frame: of a replay, or as a node published them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.output_topics import OUTPUT_TOPICS
from ros_ood_perception.recordings.bag import Bag, BagError, BagMessage

READ = ("semantic_mask", "anomaly_mask", "anomaly_score", "obstacle_detections")
MAX_WAITING = 64
"""So many frames may lack an output that comes later; then the oldest is given without it."""

FrameKey = tuple[str, int, int]
"""Camera, stamp and occurrence, as in `ResultFrame`."""


@dataclass(frozen=True)
class DetectedBox:
    """One obstacle in the picture: left, top, width and height in pixels, and its id."""

    x: float
    y: float
    width: float
    height: float
    id: str


@dataclass
class ResultFrame:
    """What a bag holds of one frame.

    Attributes:
        camera: what the topics begin with, up to `output/`.
        stamp_ns: of the header.
        occurrence: 0; 1 for the second frame of the camera with this stamp, and so on.
        time_ns: of the recording.
        pictures: by output name: ids (H, W) uint8, mask (H, W) uint8, score (H, W) float32 in [0, 1].
        obstacles: None where the bag does not hold them.
    """

    camera: str
    stamp_ns: int
    occurrence: int
    time_ns: int
    pictures: dict[str, NDArray[Any]] = field(default_factory=dict)
    obstacles: tuple[DetectedBox, ...] | None = None

    @property
    def key(self) -> FrameKey:
        """Equal for the same frame in another bag."""
        return (self.camera, self.stamp_ns, self.occurrence)


def result_topics(bag: Bag) -> dict[str, tuple[str, str]]:
    """Topic to camera and output name, of those that are read.

    Raises:
        BagError: it holds no semantic masks.
    """
    found = {}
    for topic in bag.types:
        for name in READ:
            if topic.endswith(f"/{OUTPUT_TOPICS[name]}"):
                found[topic] = (topic.removesuffix(OUTPUT_TOPICS[name]), name)
    if not any(name == "semantic_mask" for _, name in found.values()):
        raise BagError(f"{bag.path}: holds no results: no topic ends in {OUTPUT_TOPICS['semantic_mask']}")
    return found


def mask_keys(bag: Bag) -> set[FrameKey]:
    """The keys of the frames that have a semantic mask.

    Raises:
        BagError: no results, or a message that cannot be read.
    """
    masks = {topic: found for topic, found in result_topics(bag).items() if found[1] == "semantic_mask"}
    return {key for key, _, _ in _messages(bag, masks)}


def result_frames(bag: Bag) -> Iterator[ResultFrame]:
    """The frames in the order in which they are complete.

    Raises:
        BagError: no results, or a message that cannot be read.
    """
    topics = result_topics(bag)
    wanted = Counter(camera for camera, _ in topics.values())
    waiting: dict[FrameKey, tuple[ResultFrame, set[str]]] = {}
    for key, raw, message in _messages(bag, topics):
        camera, name = topics[raw.topic]
        frame, parts = waiting.setdefault(key, (ResultFrame(*key, raw.time_ns), set()))
        parts.add(name)
        if name == "obstacle_detections":
            frame.obstacles = tuple(_box(detection) for detection in message.detections)
        else:
            frame.pictures[name] = _pixels(message, f"{bag.path}: {raw.topic}")
        if len(parts) == wanted[camera]:
            del waiting[key]
            yield frame
        elif len(waiting) > MAX_WAITING:
            yield waiting.pop(next(iter(waiting)))[0]
    for frame, _ in waiting.values():
        yield frame


def _messages(bag: Bag, topics: Mapping[str, tuple[str, str]]) -> Iterator[tuple[FrameKey, BagMessage, Any]]:
    """The messages of these topics, each with its frame's key, and as it is when read."""
    seen: Counter[tuple[str, int]] = Counter()
    for raw in bag.messages(topics):
        message = bag.deserialize(raw)
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        yield (topics[raw.topic][0], stamp_ns, seen[raw.topic, stamp_ns]), raw, message
        seen[raw.topic, stamp_ns] += 1


def _pixels(message: Any, where: str) -> NDArray[Any]:
    kinds: dict[str, np.dtype[Any]] = {"mono8": np.dtype(np.uint8), "32FC1": np.dtype("<f4")}
    kind = kinds.get(message.encoding)
    data = np.asarray(message.data, np.uint8)
    if kind is None or message.step != message.width * kind.itemsize or len(data) != message.height * message.step:
        raise BagError(f"{where}: {message.encoding[:20]!r} of step {message.step} is no result of this package")
    return data.view(kind).reshape(message.height, message.width)


def _box(detection: Any) -> DetectedBox:
    box, centre = detection.bbox, detection.bbox.center.position
    return DetectedBox(
        centre.x - (box.size_x - 1) / 2, centre.y - (box.size_y - 1) / 2, box.size_x, box.size_y, detection.id
    )
