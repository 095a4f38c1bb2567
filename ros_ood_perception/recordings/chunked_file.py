"""What the readers of MCAP and ROS 1 share: files of chunks, each with the messages of some hundred milliseconds.

When a reader opens a file, it finds out where the chunks are and what each holds. This module then gives the messages
in the order of their times, and compares each chunk with its index.
"""

from __future__ import annotations

import abc
import contextlib
import heapq
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.recordings.decompression import DecompressionError, decompressed, most_decompressed

MAX_CHUNK_BYTES = 1 << 28
"""Largest chunk, decompressed. Recorders write some megabytes, or one large message. A larger one is damaged or
hostile."""
MAX_CHUNK_RECORDS = 500_000
MAX_WAITING_BYTES = 1 << 27
"""Largest size of the messages that wait because later chunks overlap theirs in time."""

OTHER_ENCODINGS = {name: name for name in ("protobuf", "json", "flatbuffer", "cbor", "msgpack")} | {"ros1": "ROS 1"}
"""Well-known encodings of other messages in a ROS 2 recording, and what they are called."""

Message = tuple[int, str, bytes]
"""Time in nanoseconds, topic, the message as it was serialised."""


class ChunkError(PerceptionError, ValueError):
    """A chunk of which nothing can be read. The message says why."""


class BrokenRecordError(PerceptionError, ValueError):
    """Bytes that are not a record. The message says why."""


class DecompressionBudget:
    """Limits the size of all chunks of a file together, decompressed.

    Args:
        file_size: size of the file, bytes.
    """

    def __init__(self, file_size: int) -> None:
        self._file_size = file_size
        self._most = most_decompressed(file_size)
        self._used = 0

    def take(self, size: int) -> bool:
        """Count a chunk of this size. Returns False if the limit is exceeded.

        Chunks above `MAX_CHUNK_BYTES` are not counted, because they are never decompressed."""
        self._used += size if size <= MAX_CHUNK_BYTES else 0
        return self._used <= self._most

    def exceeded(self, position: int) -> str:
        """The sentence of damage for a file whose chunks from this byte on are left out."""
        return (
            f"the chunks from byte {position} on are left out: the file has {self._file_size} bytes and decompresses "
            f"to more than {self._most}"
        )


def check_chunk_size(size: int, compressed_size: int) -> None:
    """Refuse a chunk that is too large, before it is read.

    Raises:
        ChunkError: it is.
    """
    if max(size, compressed_size) > MAX_CHUNK_BYTES:
        raise ChunkError(f"it declares {size} bytes; at most {MAX_CHUNK_BYTES} are read")


def decompressed_chunk(data: bytes, compression: str, size: int, cut: bool = False) -> bytes:
    """The bytes of a chunk, of which there must be `size`.

    Args:
        cut: the end of the chunk is missing, so there may be fewer.

    Raises:
        ChunkError: they cannot be decompressed, or are more or fewer.
    """
    try:
        found = decompressed(data, compression, size, cut)
    except DecompressionError as error:
        raise ChunkError(str(error)) from error
    if len(found) != size and not cut:
        raise ChunkError(f"it has {len(found)} bytes instead of {size}")
    return found


@dataclass(frozen=True)
class StoredTopic:
    """A topic as a file defines it.

    Attributes:
        type_name: name of the message type, such as `sensor_msgs/msg/Image`.
        encoding: language of the definitions: `ros2msg`, `ros2idl` or "".
        definitions: definitions of the type; several if the copies in the file differ.
    """

    name: str
    type_name: str
    encoding: str = ""
    definitions: tuple[str, ...] = field(default=(), repr=False)


@dataclass
class Chunk:
    """The position of a chunk, and what the file says about it.

    Attributes:
        position: position of its record in the file, bytes.
        start_ns, end_ns: times of its first and last message.
        counts: channel number to number of messages.
    """

    position: int
    start_ns: int
    end_ns: int
    counts: dict[int, int]


@dataclass
class ChunkContents:
    """A chunk that has been read.

    Attributes:
        data: decompressed.
        messages: channel, time, first and last byte in `data`, in recorded order.
    """

    data: memoryview
    messages: list[tuple[int, int, int, int]]


class LooseMessages:
    """Messages outside of chunks. Only their times and positions are kept."""

    def __init__(self) -> None:
        self._times = array("Q")
        self._begins = array("Q")
        self._ends = array("Q")
        self._channels = array("I")

    def add(self, channel: int, time_ns: int, begin: int, end: int) -> None:
        """Add the next message, whose bytes are from `begin` to `end`."""
        self._times.append(time_ns)
        self._begins.append(begin)
        self._ends.append(end)
        self._channels.append(channel)

    def __len__(self) -> int:
        return len(self._times)

    def counts(self) -> Counter[int]:
        """Channel to number of messages."""
        return Counter(self._channels)

    def start_ns(self) -> int:
        """Time of the first message, nanoseconds."""
        return min(self._times)

    def in_order(self, channels: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
        """Time, channel, first and last byte of the messages of these channels, ordered by time, then by position."""
        wanted = np.flatnonzero(np.isin(np.asarray(self._channels), sorted(channels)))
        for index in wanted[np.argsort(np.asarray(self._times)[wanted], kind="stable")].tolist():
            yield self._times[index], self._channels[index], self._begins[index], self._ends[index]


class ChunkedFile(abc.ABC):
    """Base class of the readers of MCAP and ROS 1, which fill the attributes.

    Attributes:
        channels: number to topic, of the messages that can be read.
        left_out: topic to serialisation format, of topics whose messages are not ROS messages.
        counts: topic to number of messages.
        damage: a sentence for each fault that was found when the file was opened.
        doubts: why messages may be missing, unless `metadata.yaml` announces as many as there are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.doubts: list[str] = []
        self.channels: dict[int, StoredTopic] = {}
        self.left_out: dict[str, str] = {}
        self.damage: list[str] = []
        self.chunks: list[Chunk] = []
        self.loose = LooseMessages()

    @abc.abstractmethod
    def _contents(self, file: PlainFile, chunk: Chunk, damage: list[str]) -> ChunkContents:
        """Read a chunk.

        Raises:
            ChunkError: nothing of it can be read.
        """

    def _read_definitions(self, file: PlainFile, wanted: set[int]) -> None:
        """Read the chunk of the first message of each wanted channel: it, or one before it, defines the channel."""
        wanted = set(wanted)
        for chunk in self.chunks:
            if wanted.isdisjoint(chunk.counts):
                continue
            wanted -= chunk.counts.keys()
            # Its errors are named later, when its messages are read.
            with contextlib.suppress(ChunkError):
                self._contents(file, chunk, [])

    def _note_missing_chunks(self, positions: Iterable[int]) -> None:
        """Name chunks that the index lists and the file does not hold."""
        self.damage += [f"its index lists a chunk at byte {position}, where none is" for position in positions]

    @property
    def topics(self) -> list[StoredTopic]:
        """The readable topics; a topic with several channels is listed more than once."""
        return list(self.channels.values())

    @property
    def counts(self) -> dict[str, int]:
        """Topic to number of messages."""
        found: Counter[str] = Counter()
        for number, count in self._channel_counts().items():
            if number in self.channels:
                found[self.channels[number].name] += count
        return dict(found)

    def _channel_counts(self) -> Counter[int]:
        found = self.loose.counts()
        for chunk in self.chunks:
            found.update(chunk.counts)
        return found

    @property
    def start_ns(self) -> int:
        """A lower bound of the messages' times, nanoseconds."""
        times = [chunk.start_ns for chunk in self.chunks if chunk.counts]
        return min([*times, self.loose.start_ns()] if len(self.loose) else times, default=0)

    def messages(
        self, topics: Mapping[str, str], start_ns: int | None, stop_ns: int | None, damage: list[str]
    ) -> Iterator[Message]:
        """The messages of these topics in the order of their times; equal times in the order of the file.

        Args:
            topics: topic to type; a topic with the same name and another type is left out.
            start_ns, stop_ns: as in `Bag.messages`.
            damage: a sentence is added for each thing that cannot be read.
        """
        channels = {
            number: topic.name for number, topic in self.channels.items() if topics.get(topic.name) == topic.type_name
        }
        if not channels:
            return
        start = -1 if start_ns is None else start_ns
        stop = 1 << 65 if stop_ns is None else stop_ns
        with PlainFile(self.path) as file:
            found = self._of_chunks(file, channels, start, stop, damage)
            if len(self.loose):
                found = heapq.merge(self._loose(file, channels, start, stop), found, key=itemgetter(0))
            yield from found

    def _loose(self, file: PlainFile, channels: dict[int, str], start: int, stop: int) -> Iterator[Message]:
        for time_ns, channel, begin, end in self.loose.in_order(channels):
            if start <= time_ns < stop:
                yield time_ns, channels[channel], file.read(begin, end - begin)

    def _of_chunks(
        self, file: PlainFile, channels: dict[int, str], start: int, stop: int, damage: list[str]
    ) -> Iterator[Message]:
        chunks = [
            chunk
            for chunk in self.chunks
            if chunk.end_ns >= start and chunk.start_ns < stop and not channels.keys().isdisjoint(chunk.counts)
        ]
        chunks.sort(key=lambda chunk: (chunk.start_ns, chunk.position))
        # Time, position of the chunk, index in the chunk: no two are equal, so bytes are never compared.
        waiting: list[tuple[int, int, int, str, bytes]] = []
        waiting_bytes = 0

        def next_one() -> Message:
            nonlocal waiting_bytes
            time_ns, _, _, topic, raw = heapq.heappop(waiting)
            waiting_bytes -= len(raw)
            return time_ns, topic, raw

        for chunk in chunks:
            while waiting and waiting[0][0] < chunk.start_ns:
                yield next_one()
            if waiting_bytes > MAX_WAITING_BYTES:
                damage.append(
                    f"its chunks overlap in time by more than {MAX_WAITING_BYTES} bytes: some are out of order"
                )
                while waiting_bytes > MAX_WAITING_BYTES:
                    yield next_one()
            for index, (channel, time_ns, raw) in enumerate(self._sorted(file, chunk, damage)):
                if channel in channels and start <= time_ns < stop:
                    heapq.heappush(waiting, (time_ns, chunk.position, index, channels[channel], bytes(raw)))
                    waiting_bytes += len(raw)
        while waiting:
            yield next_one()

    def _sorted(self, file: PlainFile, chunk: Chunk, damage: list[str]) -> Sequence[tuple[int, int, memoryview]]:
        """Channel, time and bytes of a chunk's messages by time; compares the chunk with its index."""
        try:
            contents = self._contents(file, chunk, damage)
        except ChunkError as error:
            damage.append(
                f"the chunk at byte {chunk.position} is left out, {sum(chunk.counts.values())} messages: {error}"
            )
            return ()
        found = Counter(channel for channel, *_ in contents.messages)
        for number in sorted({*found, *chunk.counts}):
            if found[number] != chunk.counts.get(number, 0):
                damage.append(
                    f"the chunk at byte {chunk.position} holds {found[number]} messages of {self._named(number)}; its "
                    f"index says {chunk.counts.get(number, 0)}"
                )
        times = [time_ns for _, time_ns, _, _ in contents.messages]
        if times and not (chunk.start_ns <= min(times) and max(times) <= chunk.end_ns):
            damage.append(f"the chunk at byte {chunk.position} holds messages outside the time span that it declares")
        contents.messages.sort(key=itemgetter(1))
        return [(channel, time_ns, contents.data[begin:end]) for channel, time_ns, begin, end in contents.messages]

    def _named(self, channel: int) -> str:
        return self.channels[channel].name if channel in self.channels else f"channel {channel}"

    def _learn(self, file: PlainFile, chunk: Chunk) -> None:
        """Read a chunk to find out what it holds. Where that fails, `damage` says so and the chunk counts as empty."""
        try:
            contents = self._contents(file, chunk, self.damage)
        except ChunkError as error:
            self.damage.append(f"the chunk at byte {chunk.position} is left out: {error}")
            chunk.counts = {}
            return
        chunk.counts = dict(Counter(channel for channel, *_ in contents.messages))
        times = [time_ns for _, time_ns, _, _ in contents.messages]
        chunk.start_ns, chunk.end_ns = min(times, default=0), max(times, default=0)
