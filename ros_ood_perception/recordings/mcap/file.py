"""Reads one MCAP file, complete or damaged. The data section is always read, and the summary compared with it.

If the chunk index agrees with the chunks, their message indexes and the statistics, it says which chunks hold a topic.
If not, every chunk is read when the file is opened.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.recordings.chunked_file import (
    MAX_CHUNK_RECORDS,
    OTHER_ENCODINGS,
    BrokenRecordError,
    Chunk,
    ChunkContents,
    ChunkedFile,
    ChunkError,
    DecompressionBudget,
    StoredTopic,
    check_chunk_size,
    decompressed_chunk,
)
from ros_ood_perception.recordings.mcap import records
from ros_ood_perception.recordings.mcap.records import ChunkHeader, McapChannel, McapSchema
from ros_ood_perception.recordings.mcap.scan import McapScan, Record

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_READ_AT_ONCE = 1 << 24
_LANGUAGES = ("ros2msg", "ros2idl")
"""Languages of ROS 2 definitions."""


@dataclass
class McapChunk(Chunk):
    """A chunk and its message indexes.

    Attributes:
        header: the header of the chunk.
        record_bytes: size of the whole record.
        offsets: channel to the position of its message index; empty if there is none.
        cut: the file ends within the chunk.
    """

    header: ChunkHeader
    record_bytes: int
    offsets: dict[int, int]
    cut: bool


class _Definitions:
    """Schemas and channels of one part of the file."""

    def __init__(self) -> None:
        self.schemas: dict[int, McapSchema] = {}
        self.channels: dict[int, McapChannel] = {}
        self._seen: set[bytes] = set()

    def add(self, operation: int, data: bytes, damage: list[str]) -> None:
        """Add a record. Of several with one number, the first counts."""
        if data in self._seen:
            return
        self._seen.add(data)
        try:
            if operation == records.SCHEMA:
                number, schema = records.schema(data)
                if self.schemas.setdefault(number, schema) != schema:
                    damage.append(f"schema {number} is defined twice, differently")
            else:
                number, channel = records.channel(data)
                if self.channels.setdefault(number, channel) != channel:
                    damage.append(f"channel {number} is defined twice, differently ({channel.topic[:60]!r})")
        except BrokenRecordError as error:
            damage.append(f"a definition of a topic cannot be read ({error})")


class McapFile(ChunkedFile):
    """An MCAP file. It is open only while it is scanned, and while messages are read.

    Attributes:
        metadata_text: the copy of `metadata.yaml` that rosbag2 writes into its files; "" if there is none.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.metadata_text = ""
        self._data, self._summary = _Definitions(), _Definitions()
        self._index: dict[int, records.ChunkIndex] = {}
        self._statistics: tuple[int, int, dict[int, int]] | None = None
        with PlainFile(path) as file:
            self._scan(file)
            if self._is_indexed():
                self._read_definitions(file, set(self._channel_counts()) - set(self._data.channels))
            else:
                for chunk in self.chunks:
                    self._learn(file, chunk)
        self._merge_definitions()
        self._compare_statistics()

    # -- what the file holds -------------------------------------------------------------------------------------

    def _scan(self, file: PlainFile) -> None:
        scan = McapScan(file)
        footer: Record | None = None
        data_end: Record | None = None
        budget = DecompressionBudget(file.size)
        for record in scan.records():
            if record.operation in (records.SCHEMA, records.CHANNEL):
                part = self._data if data_end is None else self._summary
                part.add(record.operation, file.near(record.begin, record.end - record.begin), self.damage)
                if record.operation == records.CHANNEL:
                    scan.known_channels.add(record.parsed[0])
            elif record.operation == records.MESSAGE:
                channel, time_ns = record.parsed
                self.loose.add(channel, time_ns, record.begin + records.MESSAGE_HEADER_BYTES, record.end)
                scan.known_channels.add(channel)
            elif record.operation == records.CHUNK:
                header: ChunkHeader = record.parsed
                if not budget.take(header.size):
                    self.damage.append(budget.exceeded(record.position))
                    return
                self.chunks.append(
                    McapChunk(
                        record.position,
                        header.start_ns,
                        header.end_ns,
                        {},
                        header,
                        record.end - record.position,
                        {},
                        record.cut,
                    )
                )
            elif record.operation == records.MESSAGE_INDEX:
                self._add_message_index(record)
            elif record.operation == records.CHUNK_INDEX:
                self._index[record.parsed.position] = record.parsed
            elif record.operation == records.STATISTICS:
                self._statistics = record.parsed
            elif record.operation == records.METADATA and record.parsed[0] == "rosbag2":
                self.metadata_text = record.parsed[1].get("serialized_metadata", "")
            elif record.operation == records.DATA_END:
                if data_end is not None:
                    self.damage.append("it has the end of its data twice")
                data_end = record
            elif record.operation == records.FOOTER:
                footer = record
        self.damage += scan.damage
        if footer is not None and data_end is not None:
            self._check_sums(file, data_end, footer)

    def _add_message_index(self, record: Record) -> None:
        channel, count = record.parsed
        if not self.chunks:
            self.damage.append(f"a message index at byte {record.position} belongs to no chunk")
            return
        chunk = self.chunks[-1]
        assert isinstance(chunk, McapChunk)
        if channel in chunk.offsets:
            self.damage.append(f"the chunk at byte {chunk.position} has two message indexes of one channel")
        chunk.offsets[channel] = record.position
        if count:
            chunk.counts[channel] = count

    def _check_sums(self, file: PlainFile, data_end: Record, footer: Record) -> None:
        start, _, summary_crc = footer.parsed
        if start not in (0, data_end.end):
            self.damage.append(f"its footer says that its summary is at byte {start}; it is at byte {data_end.end}")
        # The checksum covers the footer up to the checksum.
        if summary_crc and _crc(file, data_end.end, footer.end - 4) != summary_crc:
            self.damage.append("the checksum of its summary is wrong")
        unchecked = len(self.loose) or any(isinstance(c, McapChunk) and not c.header.crc for c in self.chunks)
        if data_end.parsed and unchecked and _crc(file, 0, data_end.position) != data_end.parsed:
            self.damage.append("the checksum of its data is wrong")

    def _is_indexed(self) -> bool:
        """Whether the index says correctly what the chunks hold. Contradictions are added to `damage`."""
        if not self._index:
            return not self.chunks
        known = True
        index = dict(self._index)
        for chunk in self.chunks:
            assert isinstance(chunk, McapChunk)
            entry, header = index.pop(chunk.position, None), chunk.header
            if entry is None:
                self.damage.append(f"its index does not list the chunk at byte {chunk.position}")
                known = False
            elif (
                (entry.start_ns, entry.end_ns, entry.length) != (header.start_ns, header.end_ns, chunk.record_bytes)
                or entry[5:] != (header.compression, header.compressed_size, header.size)
                or entry.offsets != chunk.offsets
            ):
                self.damage.append(f"its index contradicts the chunk at byte {chunk.position}")
                known = False
            # A file may leave its message indexes out.
            known = known and bool(chunk.offsets)
        self._note_missing_chunks(index)
        known = known and not index
        return known and (self._statistics is None or self._channel_counts() == _without_zeros(self._statistics[2]))

    def _merge_definitions(self) -> None:
        data, summary = self._data, self._summary
        schemas = {**summary.schemas, **data.schemas}
        channels = {**summary.channels, **data.channels}
        for kind, first, second in (
            ("schema", data.schemas, summary.schemas),
            ("channel", data.channels, summary.channels),
        ):
            for number in sorted(first.keys() & second.keys()):
                if first[number] != second[number]:  # type: ignore[index]
                    self.damage.append(f"its summary has another {kind} {number} than its data")
        counts = self._channel_counts()
        for number, channel in sorted(channels.items()):
            schema = schemas.get(channel.schema)
            if channel.encoding in OTHER_ENCODINGS:
                self.left_out[channel.topic] = OTHER_ENCODINGS[channel.encoding]
            elif channel.encoding != "cdr" and not _may_be_ros2(channel, schema):
                self.left_out[channel.topic] = channel.encoding[:20]
            elif channel.encoding != "cdr":
                self.damage.append(f"{channel.topic}: its messages are in {channel.encoding[:20]!r}, which is not read")
            elif schema is None:
                self.damage.append(f"{channel.topic}: its type is not said; {counts[number]} messages are not read")
            else:
                copies = (part.schemas.get(channel.schema) for part in (data, summary))
                texts = dict.fromkeys(copy.definition for copy in copies if copy is not None)
                self.channels[number] = StoredTopic(
                    channel.topic, _type_name(schema.name), schema.encoding, tuple(texts)
                )
        unknown = {number: count for number, count in counts.items() if number not in channels}
        if unknown:
            self.damage.append(f"{sum(unknown.values())} messages are of topics whose definition cannot be read")

    def _compare_statistics(self) -> None:
        if self._statistics is None:
            return
        counts = self._channel_counts()
        announced_messages, announced_chunks, announced = self._statistics
        for number in sorted(announced.keys() | counts.keys()):
            if announced.get(number, 0) != counts[number]:
                self.damage.append(
                    f"its statistics announce {announced.get(number, 0)} messages of {self._named(number)}; it has "
                    f"{counts[number]}"
                )
        for kind, said, there in (
            ("messages", announced_messages, counts.total()),
            ("chunks", announced_chunks, len(self.chunks)),
        ):
            if said != there:
                self.damage.append(f"its statistics announce {said} {kind}; it has {there}")

    # -- a chunk -------------------------------------------------------------------------------------------------

    def _contents(self, file: PlainFile, chunk: Chunk, damage: list[str]) -> ChunkContents:
        assert isinstance(chunk, McapChunk)
        data = memoryview(_decompressed(file, chunk))
        messages: list[tuple[int, int, int, int]] = []
        position, size, remaining, odd = 0, len(data), MAX_CHUNK_RECORDS, 0
        while position < size:
            begin = position + records.RECORD_HEADER_BYTES
            operation, length = _RECORD.unpack_from(data, position) if begin <= size else (0, 0)
            end = begin + length
            remaining -= 1
            if end > size or not operation or records.DATA_END < operation < records.FIRST_PRIVATE or remaining < 0:
                damage.append(
                    f"the chunk at byte {chunk.position} breaks off: {size - position} bytes of it are left out"
                )
                break
            if operation == records.MESSAGE and length >= records.MESSAGE_HEADER_BYTES:
                channel, _, time_ns, _ = _MESSAGE.unpack_from(data, begin)
                messages.append((channel, time_ns, begin + records.MESSAGE_HEADER_BYTES, end))
            elif operation in (records.SCHEMA, records.CHANNEL):
                self._data.add(operation, bytes(data[begin:end]), damage)
            else:
                odd += 1
            position = end
        if odd:
            damage.append(f"the chunk at byte {chunk.position} holds {odd} records of kinds that no chunk holds")
        if not chunk.header.crc:
            self._check_places(file, chunk, messages, damage)
        return ChunkContents(data, messages)

    def _check_places(
        self, file: PlainFile, chunk: McapChunk, messages: list[tuple[int, int, int, int]], damage: list[str]
    ) -> None:
        """Compare times and positions of the messages with the message indexes, for a chunk without a checksum."""
        found: dict[int, list[tuple[int, int]]] = {number: [] for number in chunk.offsets}
        for number, time_ns, begin, _ in messages:
            place = begin - records.MESSAGE_HEADER_BYTES - records.RECORD_HEADER_BYTES
            found.setdefault(number, []).append((time_ns, place))
        for number, position in chunk.offsets.items():
            begin = position + records.RECORD_HEADER_BYTES + 2
            size = int.from_bytes(file.near(begin, 4), "little")
            indexed = list(struct.iter_unpack("<QQ", file.near(begin + 4, size)))
            if sorted(indexed) != sorted(found[number]):
                damage.append(
                    f"the chunk at byte {chunk.position} has messages of {self._named(number)} at other positions "
                    "or times than its message index says"
                )


def _decompressed(file: PlainFile, chunk: McapChunk) -> bytes:
    header = chunk.header
    check_chunk_size(header.size, header.compressed_size)
    data = file.read(chunk.position + records.RECORD_HEADER_BYTES + header.data_begin, header.compressed_size)
    data = decompressed_chunk(data, header.compression.decode("latin-1"), header.size, chunk.cut)
    # A part of a chunk cannot be checked; `_contents` names where it ends.
    if not chunk.cut and header.crc and zlib.crc32(data) != header.crc:
        raise ChunkError("its checksum is wrong")
    return data


def _crc(file: PlainFile, begin: int, end: int) -> int:
    found = 0
    for position in range(begin, end, _READ_AT_ONCE):
        found = zlib.crc32(file.read(position, min(_READ_AT_ONCE, end - position)), found)
    return found


def _may_be_ros2(channel: McapChannel, schema: McapSchema | None) -> bool:
    """Whether a channel has a definition of ROS 2, or one that was lost."""
    return channel.schema != 0 if schema is None else schema.encoding in _LANGUAGES


def _without_zeros(counts: dict[int, int]) -> dict[int, int]:
    return {number: count for number, count in counts.items() if count}


def _type_name(name: str) -> str:
    """`sensor_msgs/Image` as `sensor_msgs/msg/Image`."""
    return re.sub(r"\A(\w+)/(\w+)\Z", r"\1/msg/\2", name)
