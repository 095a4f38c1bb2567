"""Reads back what a run has recorded, and matches it with the frames that were sent."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.point_cloud import POINT
from ros_ood_perception.recordings.bag_files import BAG_FOLDER


class RecordingError(PerceptionError, RuntimeError):
    """The recorded bag cannot be read. The message says why."""


@dataclass(frozen=True)
class SentFrame:
    """One line of `sent.jsonl`; `sent_at_ns` is on the monotonic clock."""

    name: str
    stamp_ns: int
    sent_at_ns: int


@dataclass(frozen=True)
class RecordedImage:
    """One recorded message, without its pixels: those of a long bag do not fit into memory.

    Attributes:
        frame: position of the frame sent.
        arrived_at_ns: on the monotonic clock.
        digest: see `pixel_digest`.
        share_set: share of the pixels that are not 0, 0 to 1.
    """

    frame: int
    arrived_at_ns: int
    digest: bytes
    share_set: float


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """BLAKE2b of size and pixels: equal for equal images only."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, key=repr(pixels.shape).encode()).digest()


@dataclass(frozen=True)
class RecordedRun:
    """What a run has recorded: the frames sent, and by output name the messages received."""

    sent: list[SentFrame]
    messages: dict[str, list[RecordedImage]]

    @classmethod
    def read(cls, out: Path, topics: Mapping[str, str]) -> RecordedRun:
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
            raise RecordingError(f"{bag}: {topic} has points of {message.point_step} bytes instead of {POINT.itemsize}")
        clouds[frame] = np.asarray(message.data, np.uint8).view(POINT)
    return clouds


def _recorded(bag: Path, topics: Mapping[str, str], sent: Sequence[SentFrame]) -> Iterator[tuple[str, int, Any]]:
    """Every message of these topics: output name, position of its frame, the message."""
    names = {topic: name for name, topic in topics.items()}
    # A bag can hold a stamp twice: frames with one stamp are matched in the order in which they were sent.
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


def end_to_end_ms(recorded: RecordedRun, output: str) -> dict[str, float | None]:
    """From the player's publish call to the arrival of the output at the recorder, milliseconds.

    Returns:
        p50, p95, p99 and max; None each without any message.
    """
    latencies = [(m.arrived_at_ns - recorded.sent[m.frame].sent_at_ns) / 1e6 for m in recorded.messages[output]]
    if not latencies:
        return {"p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(max(latencies))}
