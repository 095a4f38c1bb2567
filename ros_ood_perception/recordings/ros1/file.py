"""Reads one ROS 1 bag file (http://wiki.ros.org/Bags/Format/2.0), complete or damaged.

If the index at its end agrees with the chunks and with the index after each of them, it says which chunks hold a topic.
If not, every chunk is read when the file is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.recordings.chunked_file import (
    BrokenRecordError,
    Chunk,
    ChunkContents,
    ChunkedFile,
    DecompressionBudget,
    StoredTopic,
    check_chunk_size,
    decompressed_chunk,
)
from ros_ood_perception.recordings.ros1.records import (
    BAG_HEADER,
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    COUNT,
    ENTRY,
    INDEX,
    MAGIC,
    MESSAGE,
    U64,
    Record,
    connection_of,
    entry_times,
    field_of,
    next_chunk,
    number_of,
    record_at,
    records_of,
    time_of,
)

MAX_SMALL_RECORD_BYTES = 1 << 24


class Ros1FileError(PerceptionError, ValueError):
    """A file that cannot be read as a ROS 1 bag. The message says why."""


@dataclass
class Ros1Chunk(Chunk):
    """A chunk.

    Attributes:
        compression: `none`, `bz2` or `lz4`.
        size: decompressed, bytes.
        begin, end: position of its compressed bytes in the file.
        indexes: connection number to begin and end of its index entries; empty if no index follows.
    """

    compression: str
    size: int
    begin: int
    end: int
    indexes: dict[int, tuple[int, int]] = field(default_factory=dict)


class Ros1File(ChunkedFile):
    """A ROS 1 bag file. It is open only while it is scanned, and while messages are read.

    Raises:
        Ros1FileError, OSError: it is not a bag, or cannot be read.
    """

    metadata_text = ""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._in_data: dict[int, StoredTopic] = {}
        self._in_index: dict[int, StoredTopic] = {}
        self._infos: dict[int, tuple[int, int, dict[int, int]]] = {}
        self._header: dict[bytes, bytes] = {}
        with PlainFile(path) as file:
            if file.read(0, len(MAGIC)) != MAGIC:
                raise Ros1FileError("it does not begin as a bag of ROS 1 does (#ROSBAG V2.0)")
            self._scan(file)
            if self._header.get(b"encryptor"):
                raise Ros1FileError("it is encrypted; decrypt it first (rosbag decrypt)")
            if self._is_indexed():
                self._read_definitions(file, set(self._channel_counts()))
            else:
                for chunk in self.chunks:
                    self._learn(file, chunk)
        self._merge_connections()

    # -- what the file holds -------------------------------------------------------------------------------------

    def _scan(self, file: PlainFile) -> None:
        position = len(MAGIC)
        budget = DecompressionBudget(file.size)
        while position < file.size:
            try:
                record = record_at(file, position)
                if not budget.take(self._take(file, record)):
                    self.damage.append(budget.exceeded(position))
                    return
            except BrokenRecordError as error:
                following = next_chunk(file, position + 1)
                if following is None:
                    self.damage.append(f"{error} at byte {position}; nothing follows that can be read")
                    return
                self.damage.append(f"{error} at byte {position}; {following - position} bytes are left out")
                position = following
                continue
            position = record.end

    def _take(self, file: PlainFile, record: Record) -> int:
        """Store a record; returns the decompressed size of its chunk, 0 for other records."""
        size = record.end - record.begin
        if record.operation == CHUNK:
            compression = field_of(record.fields, b"compression", None).decode("latin-1")
            unpacked = number_of(record.fields, b"size")
            self.chunks.append(Ros1Chunk(record.position, 0, 0, {}, compression, unpacked, record.begin, record.end))
            return unpacked
        if record.operation == MESSAGE:
            time_ns = time_of(record.fields, b"time")
            self.loose.add(number_of(record.fields, b"conn"), time_ns, record.begin, record.end)
            return 0
        if record.operation not in (BAG_HEADER, INDEX, CHUNK_INFO, CONNECTION):
            raise BrokenRecordError("a record of no known kind")
        if size > MAX_SMALL_RECORD_BYTES:
            raise BrokenRecordError("a record is too large for its kind")
        data = file.read(record.begin, size)
        if record.operation == BAG_HEADER:
            self._header = record.fields
        elif record.operation == INDEX:
            self._take_index(record, data)
        elif record.operation == CHUNK_INFO:
            counts = np.frombuffer(data[: size // 8 * 8], COUNT)
            if len(counts) != number_of(record.fields, b"count") or size % 8:
                raise BrokenRecordError("the lengths of a part of the index do not match")
            self._infos[number_of(record.fields, b"chunk_pos", U64)] = (
                time_of(record.fields, b"start_time"),
                time_of(record.fields, b"end_time"),
                {int(entry["connection"]): int(entry["count"]) for entry in counts if entry["count"]},
            )
        else:
            self._define(self._in_index, record.fields, data, self.damage)
        return 0

    def _take_index(self, record: Record, data: bytes) -> None:
        entries = np.frombuffer(data[: len(data) // 12 * 12], ENTRY)
        if len(entries) != number_of(record.fields, b"count") or len(data) % 12 or not self.chunks:
            raise BrokenRecordError("the lengths of the index of a chunk do not match")
        chunk = self.chunks[-1]
        assert isinstance(chunk, Ros1Chunk)
        times = entry_times(entries)
        connection = number_of(record.fields, b"conn")
        if connection in chunk.indexes:
            self.damage.append(f"the chunk at byte {chunk.position} has two indexes of one topic")
        chunk.indexes[connection] = (record.begin, record.end)
        if not len(entries):
            return
        before = bool(chunk.counts)
        chunk.counts[connection] = len(entries)
        first, last = int(times.min()), int(times.max())
        chunk.start_ns = min(chunk.start_ns, first) if before else first
        chunk.end_ns = max(chunk.end_ns, last) if before else last

    def _is_indexed(self) -> bool:
        """Whether the index says correctly what the chunks hold. Contradictions are added to `damage`."""
        if not self._header:
            self.damage.append("it has no header")
            return False
        if not int.from_bytes(self._header.get(b"index_pos", b""), "little"):
            self.damage.append("it was not finished: its recorder was killed")
            return False
        known = True
        infos = dict(self._infos)
        for chunk in self.chunks:
            assert isinstance(chunk, Ros1Chunk)
            info = infos.pop(chunk.position, None)
            if info is None or ((info[2] or chunk.counts) and info != (chunk.start_ns, chunk.end_ns, chunk.counts)):
                self.damage.append(f"its index contradicts the chunk at byte {chunk.position}, or does not list it")
                known = False
            known = known and bool(chunk.indexes)
        self._note_missing_chunks(infos)
        known = known and not infos
        for name, there in ((b"chunk_count", len(self.chunks)), (b"conn_count", len(self._in_index))):
            said = int.from_bytes(self._header.get(name, b""), "little")
            if said != there:
                self.damage.append(f"its header announces {said} as its {name.decode()}; it has {there}")
                known = False
        return known

    def _merge_connections(self) -> None:
        for number in sorted(self._in_data.keys() & self._in_index.keys()):
            if self._in_data[number] != self._in_index[number]:
                self.damage.append(f"its index has another topic {number} than its data")
        self.channels = {**self._in_index, **self._in_data}
        unknown = {number: n for number, n in self._channel_counts().items() if number not in self.channels}
        if unknown:
            self.damage.append(f"{sum(unknown.values())} messages are of topics whose definition cannot be read")

    def _define(self, part: dict[int, StoredTopic], fields: dict[bytes, bytes], data: bytes, damage: list[str]) -> None:
        try:
            number, topic = connection_of(fields, data)
        except BrokenRecordError as error:
            damage.append(f"a definition of a topic cannot be read ({error})")
            return
        if part.setdefault(number, topic) != topic:
            damage.append(f"topic {number} is defined twice, differently ({topic.name[:60]!r})")

    # -- a chunk -------------------------------------------------------------------------------------------------

    def _contents(self, file: PlainFile, chunk: Chunk, damage: list[str]) -> ChunkContents:
        assert isinstance(chunk, Ros1Chunk)
        compressed_size = chunk.end - chunk.begin
        check_chunk_size(chunk.size, compressed_size)
        data = decompressed_chunk(file.read(chunk.begin, compressed_size), chunk.compression, chunk.size)
        view = memoryview(data)
        messages: list[tuple[int, int, int, int]] = []
        position, odd = 0, 0
        try:
            for record in records_of(data):
                position = record.end
                if record.operation == MESSAGE:
                    time_ns = time_of(record.fields, b"time")
                    messages.append((number_of(record.fields, b"conn"), time_ns, record.begin, record.end))
                elif record.operation == CONNECTION:
                    self._define(self._in_data, record.fields, data[record.begin : record.end], damage)
                else:
                    odd += 1
        except BrokenRecordError as error:
            damage.append(
                f"the chunk at byte {chunk.position} breaks off ({error}): {len(data) - position} bytes are left out"
            )
        if odd:
            damage.append(f"the chunk at byte {chunk.position} holds {odd} records of kinds that no chunk holds")
        self._check_times(file, chunk, messages, damage)
        return ChunkContents(view, messages)

    def _check_times(
        self, file: PlainFile, chunk: Ros1Chunk, messages: list[tuple[int, int, int, int]], damage: list[str]
    ) -> None:
        """Compare the times of the messages with the index after their chunk. There is no checksum."""
        found: dict[int, list[int]] = {number: [] for number in chunk.indexes}
        for number, time_ns, _, _ in messages:
            found.setdefault(number, []).append(time_ns)
        for number, (begin, end) in chunk.indexes.items():
            indexed = entry_times(np.frombuffer(file.near(begin, end - begin), ENTRY))
            if sorted(indexed.tolist()) != sorted(found[number]):
                damage.append(
                    f"the chunk at byte {chunk.position} has messages of {self._named(number)} at other times than its "
                    "index says"
                )
