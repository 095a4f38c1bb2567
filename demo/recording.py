"""What was recorded, read back: matched with what was sent, and compared with what the engine gives."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError

from demo.frame_player import to_image
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.camera.raw_image import MalformedImageError, check_image, to_colour
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.messages.results import score_to_mono8
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.point_cloud import POINT
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.frame_source import FrameSource


class RecordingError(PerceptionError, RuntimeError):
    """The recorded bag cannot be read back."""


@dataclass(frozen=True)
class SentFrame:
    """One line of the player's record; `sent_at_ns` is on the monotonic clock."""

    name: str
    stamp_ns: int
    sent_at_ns: int


@dataclass(frozen=True)
class RecordedImage:
    """One recorded message, without its pixels: a long bag would not fit into memory.

    Attributes:
        frame: position of the frame sent.
        arrived_at_ns: on the monotonic clock.
        digest: of size and pixels.
        share_set: share of the pixels that are not 0.
    """

    frame: int
    arrived_at_ns: int
    digest: bytes
    share_set: float


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """Equal for images of equal size and pixels only (BLAKE2b)."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, key=repr(pixels.shape).encode()).digest()


@dataclass(frozen=True)
class Recording:
    """A run's record: what was sent, and by output name what came back."""

    sent: list[SentFrame]
    messages: dict[str, list[RecordedImage]]

    @classmethod
    def read(cls, out: Path, topics: Mapping[str, str]) -> Recording:
        """Read `sent.jsonl`, `arrivals.jsonl` and `bag/` of a run.

        Args:
            topics: output name -> topic; mono8 images.

        Raises:
            RecordingError: unreadable, or a message whose stamp belongs to no frame sent.
        """
        sent = [SentFrame(**json.loads(line)) for line in (out / "sent.jsonl").read_text("utf-8").splitlines()]
        arrivals: dict[str, deque[int]] = defaultdict(deque)
        for line in (out / "arrivals.jsonl").read_text("utf-8").splitlines():
            arrival = json.loads(line)
            arrivals[arrival["topic"]].append(arrival["arrived_at_ns"])
        messages: dict[str, list[RecordedImage]] = {name: [] for name in topics}
        for name, frame, pixels in recorded_pixels(out / BAG_FOLDER, topics, sent):
            messages[name].append(
                RecordedImage(
                    frame=frame,
                    arrived_at_ns=arrivals[topics[name]].popleft(),
                    digest=pixel_digest(pixels),
                    share_set=float(np.count_nonzero(pixels) / pixels.size),
                )
            )
        return cls(sent, messages)


def recorded_pixels(
    bag: Path, topics: Mapping[str, str], sent: Sequence[SentFrame]
) -> Iterator[tuple[str, int, NDArray[np.uint8]]]:
    """Every recorded image: output name, position of its frame, pixels (H, W) uint8; in the order of the bag.

    Raises:
        RecordingError: unreadable, or a message whose stamp belongs to no frame sent.
    """
    for name, frame, message in _recorded(bag, topics, sent):
        yield name, frame, np.asarray(message.data, np.uint8).reshape(message.height, message.width)


def recorded_clouds(bag: Path, topic: str, sent: Sequence[SentFrame]) -> dict[int, NDArray[np.void]]:
    """The obstacles' points (N,) `POINT` by the position of their frame, of every frame that has them.

    Raises:
        RecordingError: unreadable, or a message whose stamp belongs to no frame sent.
    """
    clouds = {}
    for _, frame, message in _recorded(bag, {"obstacles": topic}, sent):
        if message.point_step != POINT.itemsize or len(message.data) != message.width * POINT.itemsize:
            raise RecordingError(f"{bag}: {topic} has points of {message.point_step} bytes, not {POINT.itemsize}")
        clouds[frame] = np.asarray(message.data, np.uint8).view(POINT)
    return clouds


def _recorded(bag: Path, topics: Mapping[str, str], sent: Sequence[SentFrame]) -> Iterator[tuple[str, int, Any]]:
    """Every message of these topics: output name, position of its frame, the message."""
    names = {topic: name for name, topic in topics.items()}
    # Bags may hold a stamp twice: the frames of one stamp are matched in the order they were sent.
    waiting: dict[str, dict[int, deque[int]]] = {name: defaultdict(deque) for name in topics}
    for by_stamp in waiting.values():
        for position, frame in enumerate(sent):
            by_stamp[frame.stamp_ns].append(position)
    try:
        with AnyReader([bag]) as reader:
            connections = [c for c in reader.connections if c.topic in names]
            for connection, _, raw in reader.messages(connections):
                message = reader.deserialize(raw, connection.msgtype)
                name = names[connection.topic]
                time_ns = stamp_ns(message.header.stamp)
                if not waiting[name][time_ns]:
                    raise RecordingError(f"{connection.topic}: a message has the stamp {time_ns}, which no frame has")
                yield name, waiting[name][time_ns].popleft(), message
    except (AnyReaderError, OSError) as error:
        raise RecordingError(f"{bag}: cannot be read back ({error})") from error


def end_to_end_ms(recording: Recording, output: str) -> dict[str, float | None]:
    """From the player's publish call to the arrival of the output at the recorder, milliseconds.

    Returns:
        p50, p95, p99 and max; None each without any message.
    """
    latencies = [(m.arrived_at_ns - recording.sent[m.frame].sent_at_ns) / 1e6 for m in recording.messages[output]]
    if not latencies:
        return {"p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(max(latencies))}


def compare_with_engine(
    recording: Recording,
    source: FrameSource,
    bundle: Bundle,
    engine_name: str,
    num_threads: int,
    threshold: float,
    advance: Callable[[], None],
) -> dict[str, int]:
    """Run every frame that has a recorded semantic mask through the engine in this process, and compare.

    Returns:
        `compared`: how many frames; and for each output how many of them are equal, pixel by pixel.

    Raises:
        EngineError: the engine cannot be opened or fails.
    """
    recorded = {name: {m.frame: m.digest for m in messages} for name, messages in recording.messages.items()}
    equal = {"compared": 0, **dict.fromkeys(recorded, 0)}
    description = bundle.description
    engine = open_engine(bundle, engine_name, num_threads)
    perception = Perception(engine, threshold, len(description.classes))
    for position, frame in enumerate(source):
        if position not in recorded["semantic_mask"]:
            continue
        equal["compared"] += 1
        advance()
        message = to_image(frame, 0)
        try:
            check_image(message)
            result = perception(to_colour(message, description.input.colour_order))
        except MalformedImageError:
            # A mask was published for a frame that holds no image: it is equal to nothing.
            continue
        expected = {
            "semantic_mask": result.semantic,
            "anomaly_mask": result.anomaly_mask.astype(np.uint8) * np.uint8(255),
            "anomaly_score": score_to_mono8(result.anomaly_score),
        }
        for name, pixels in expected.items():
            equal[name] += recorded[name].get(position) == pixel_digest(pixels)
    engine.close()
    return equal


def compare_with_replay(
    recording: Recording, topics: Mapping[str, str], obstacles_topic: str, out: Path, replayed: Path
) -> dict[str, int]:
    """Compare what the live node published with what a replay of the same bag wrote, frame by frame.

    Args:
        topics: output name -> topic of images.
        obstacles_topic: of their points.
        out: folder of the run.
        replayed: bag of the replay.

    Returns:
        `compared`: frames that both processed; and for each output how many of them are equal, pixel by pixel and
        point by point.

    Raises:
        RecordingError: one of the bags cannot be read.
    """
    recorded = {name: {m.frame: m.digest for m in messages} for name, messages in recording.messages.items()}
    equal = {"compared": 0, **dict.fromkeys(recorded, 0), "obstacles": 0}
    both = set()
    for name, frame, pixels in recorded_pixels(replayed, topics, recording.sent):
        if frame not in recorded["semantic_mask"]:
            continue
        both.add(frame)
        equal[name] += recorded[name].get(frame) == pixel_digest(pixels)
    live, again = (recorded_clouds(bag, obstacles_topic, recording.sent) for bag in (out / BAG_FOLDER, replayed))
    equal["obstacles"] = sum(
        frame in live and frame in again and live[frame].tobytes() == again[frame].tobytes() for frame in both
    )
    equal["compared"] = len(both)
    return equal
