"""Reads results from a bag frame by frame, whether a replay or a node wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.obstacles.point_cloud import POINT
from ros_ood_perception.recordings.bag import Bag, BagError, BagMessage

READ = ("semantic_mask", "anomaly_mask", "anomaly_score", "obstacle_detections")
MAX_OBSTACLES = 4096
"""Largest number of obstacles in one frame. A node publishes at most a quarter of it."""
MAX_PIXEL = 1e6
"""Largest coordinate of a box, pixels."""
MAX_WAITING = 64
"""Largest number of frames that wait for an output. Beyond it, the oldest is returned without that output."""

FrameKey = tuple[str, int, int]
"""Camera, stamp and occurrence, as in `ResultFrame`."""


@dataclass(frozen=True)
class DetectedBox:
    """One obstacle in the image: left, top, width and height in pixels, its id, and its mean anomaly score, 0 to 1.

    The score is None where the message has none.
    """

    x: float
    y: float
    width: float
    height: float
    id: str
    score: float | None = None


@dataclass
class ResultFrame:
    """The results of one frame in a bag.

    Attributes:
        camera: the prefix of the topics, up to `output/`.
        stamp_ns: the header's stamp, nanoseconds.
        occurrence: 0 for the first frame of the camera with this stamp, 1 for the second, and so on.
        time_ns: when it was recorded, nanoseconds.
        pictures: output name to ids (H, W) uint8, mask (H, W) uint8 or score (H, W) float32 in [0, 1].
        obstacles: None if the bag does not hold them.
    """

    camera: str
    stamp_ns: int
    occurrence: int
    time_ns: int
    pictures: dict[str, NDArray[Any]] = field(default_factory=dict)
    obstacles: tuple[DetectedBox, ...] | None = None

    @property
    def key(self) -> FrameKey:
        """Identifies the frame. The same frame in another bag has the same key."""
        return (self.camera, self.stamp_ns, self.occurrence)


def result_topics(bag: Bag) -> dict[str, tuple[str, str]]:
    """Topic to camera and output name, of the outputs in `READ`.

    Raises:
        BagError: the bag holds no semantic masks.
    """
    found = {}
    for topic in bag.types:
        for name in READ:
            if topic.endswith(f"/{OUTPUT_TOPICS[name]}"):
                found[topic] = (topic.removesuffix(OUTPUT_TOPICS[name]), name)
    if not any(name == "semantic_mask" for _, name in found.values()):
        raise BagError(f"{bag.path}: holds no results: no topic ends in {OUTPUT_TOPICS['semantic_mask']}")
    return found


def mask_keys(bag: Bag, damage: list[str] | None = None) -> set[FrameKey]:
    """The keys of all frames with a semantic mask.

    Args:
        damage: a sentence is added for each message that cannot be read. None: the first such message raises.

    Raises:
        BagError: no results, or a message that cannot be read.
    """
    masks = {topic: found for topic, found in result_topics(bag).items() if found[1] == "semantic_mask"}
    return {key for key, _, _ in _messages(bag, masks, damage)}


def result_frames(bag: Bag, damage: list[str] | None = None) -> Iterator[ResultFrame]:
    """The frames, in the order in which they become complete.

    Args:
        damage: a sentence is added for each message that cannot be read or is not a result. Its frame is returned
            without it. None: the first such message raises.

    Raises:
        BagError: no results, or a message that cannot be read.
    """
    topics = result_topics(bag)
    wanted = Counter(camera for camera, _ in topics.values())
    waiting: dict[FrameKey, tuple[ResultFrame, set[str]]] = {}
    for key, raw, message in _messages(bag, topics, damage):
        camera, name = topics[raw.topic]
        frame, parts = waiting.setdefault(key, (ResultFrame(*key, raw.time_ns), set()))
        parts.add(name)
        try:
            if name == "obstacle_detections":
                frame.obstacles = _boxes(message)
            else:
                frame.pictures[name] = _pixels(message, name)
        except _NoResultError as error:
            _note(damage, f"{bag.path}: {raw.topic}, stamp {key[1]}: {error}")
        if len(parts) == wanted[camera]:
            del waiting[key]
            yield frame
        elif len(waiting) > MAX_WAITING:
            yield waiting.pop(next(iter(waiting)))[0]
    for frame, _ in waiting.values():
        yield frame


def obstacle_places(bag: Bag, damage: list[str]) -> Iterator[tuple[FrameKey, dict[str, NDArray[np.float32]]]]:
    """Where the obstacles stand, frame by frame: id to places (N, 3) x, y, z in the vehicle's frame, metres.

    A frame in which no obstacle has a place has an empty dictionary. Frames without the message are left out: the
    camera's place over the ground was not known. Points that are not finite are left out.

    Args:
        damage: a sentence is added for each message that cannot be read.
    """
    ending = OUTPUT_TOPICS["obstacles"]
    topics = {
        topic: (topic.removesuffix(ending), "obstacles")
        for topic, kind in bag.types.items()
        if topic.endswith(f"/{ending}") and kind.endswith("/PointCloud2")
    }
    for key, raw, message in _messages(bag, topics, damage):
        data = np.ascontiguousarray(message.data, np.uint8)
        if message.point_step != POINT.itemsize or data.size != message.width * message.height * POINT.itemsize:
            _note(damage, f"{bag.path}: {raw.topic}, stamp {key[1]}: has points of another form")
            continue
        points = data.view(POINT)
        places = np.stack([points[axis] for axis in "xyz"], axis=1)
        finite = np.isfinite(places).all(axis=1)
        ids, places = points["id"][finite], places[finite]
        yield key, {str(number): places[ids == number] for number in np.unique(ids).tolist()}


class _NoResultError(PerceptionError, ValueError):
    """A message that is not one of our outputs. The text says why."""


def _note(damage: list[str] | None, sentence: str) -> None:
    if damage is None:
        raise BagError(sentence)
    # A recording is read more than once.
    if sentence not in damage:
        damage.append(sentence)


def _messages(
    bag: Bag, topics: Mapping[str, tuple[str, str]], damage: list[str] | None
) -> Iterator[tuple[FrameKey, BagMessage, Any]]:
    """The messages of these topics: key of the frame, serialised message, deserialised message."""
    seen: Counter[tuple[str, int]] = Counter()
    for raw in bag.messages(topics):
        try:
            message = bag.deserialize(raw)
            time_ns = stamp_ns(message.header.stamp)
        except (AttributeError, TypeError) as error:
            _note(damage, f"{bag.path}: {raw.topic}: a {raw.type_name} has no stamp ({error})")
            continue
        except BagError as error:
            _note(damage, str(error))
            continue
        yield (topics[raw.topic][0], time_ns, seen[raw.topic, time_ns]), raw, message
        seen[raw.topic, time_ns] += 1


def _pixels(message: Any, name: str) -> NDArray[Any]:
    """(H, W) uint8, or float32 in [0, 1] for a score."""
    kinds: dict[str, np.dtype[Any]] = {"mono8": np.dtype(np.uint8)}
    if name == "anomaly_score":
        kinds["32FC1"] = np.dtype("<f4")
    try:
        kind = kinds.get(message.encoding)
        height, width, step = int(message.height), int(message.width), int(message.step)
        data = np.ascontiguousarray(message.data, np.uint8).reshape(-1)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise _NoResultError(f"is not an image ({error})") from error
    if height < 1 or width < 1 or kind is None or step != width * kind.itemsize or len(data) != height * step:
        raise _NoResultError(
            f"{width}x{height} of {message.encoding[:20]!r} with {len(data)} bytes is not a result of this package"
        )
    pixels = data.view(kind).reshape(height, width)
    # NaN compares false with both ends.
    if kind != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise _NoResultError("has scores that are not from 0 to 1")
    return pixels


def _boxes(message: Any) -> tuple[DetectedBox, ...]:
    try:
        if len(message.detections) > MAX_OBSTACLES:
            raise _NoResultError(f"has {len(message.detections)} obstacles; a frame has at most {MAX_OBSTACLES}")
        boxes = tuple(_box(detection) for detection in message.detections)
    except (AttributeError, TypeError) as error:
        raise _NoResultError(f"is not a Detection2DArray ({error})") from error
    for box in boxes:
        corners = (box.x, box.y, box.x + box.width, box.y + box.height)
        # This form also refuses NaN.
        if not (box.width > 0 and box.height > 0 and all(abs(value) <= MAX_PIXEL for value in corners)):
            raise _NoResultError(
                f"has a box of {box.width:g}x{box.height:g} at ({box.x:g}, {box.y:g}), which no obstacle can have"
            )
    return boxes


def _box(detection: Any) -> DetectedBox:
    box, centre = detection.bbox, detection.bbox.center.position
    width, height = float(box.size_x), float(box.size_y)
    score = float(detection.results[0].hypothesis.score) if len(detection.results) else None
    # NaN compares false with both ends.
    if score is not None and not 0 <= score <= 1:
        raise _NoResultError(f"has an obstacle with the score {score:g}, which is not from 0 to 1")
    return DetectedBox(
        float(centre.x) - (width - 1) / 2, float(centre.y) - (height - 1) / 2, width, height, str(detection.id), score
    )
