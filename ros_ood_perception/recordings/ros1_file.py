"""One ROS 1 bag file (http://wiki.ros.org/Bags/Format/2.0), whole or damaged: read as `mcap_file` reads MCAP.

Where the index at its end agrees with the chunks and with the index behind each of them, it says which chunks hold a
topic. Where it does not, or there is none, every chunk is read when the file is opened.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ros_ood_perception.recordings.chunked_file import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_RECORDS,
    Chunk,
    ChunkContents,
    ChunkedFile,
    ChunkError,
    StoredTopic,
)
from ros_ood_perception.recordings.decompression import (
    FREE_FILE_BYTES,
    MAX_FILE_RATIO,
    DecompressionError,
    decompressed,
)
from ros_ood_perception.recordings.plain_file import PlainFile

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)
MAX_HEADER_BYTES = 1 << 16
MAX_SMALL_RECORD_BYTES = 1 << 24
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TIME = struct.Struct("<II")
_ENTRY = np.dtype([("sec", "<u4"), ("nsec", "<u4"), ("offset", "<u4")])
_COUNT = np.dtype([("connection", "<u4"), ("count", "<u4")])
_CHUNK_START = re.compile(rb"\x04\x00\x00\x00op=\x05", re.DOTALL)
_SEARCHED_AT_ONCE = 1 << 20
_LONGEST_FIELD_BEFORE = 64


class Ros1FileError(ValueError):
    """Not a bag of ROS 1 that can be read. The message says why."""


class _BrokenError(ValueError):
    """Bytes that are no record; the message says why."""


@dataclass(frozen=True)
class _Record:
    """One record: its fields, and where its data are."""

    operation: int
    fields: dict[bytes, bytes]
    position: int
    begin: int
    end: int


@dataclass
class Ros1Chunk(Chunk):
    """A chunk.

    Attributes:
        compression: `none`, `bz2` or `lz4`.
        size: decompressed.
        begin, end: of its compressed bytes in the file.
        has_index: an index follows it.
    """

    compression: str
    size: int
    begin: int
    end: int
    has_index: bool = False


class Ros1File(ChunkedFile):
    """Reads what the file holds; it is open only meanwhile, and while messages are taken.

    Raises:
        Ros1FileError, OSError: it is no bag, or cannot be read.
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
                raise Ros1FileError("it is encrypted")
            if self._is_indexed():
                self._define_connections(file)
            else:
                for chunk in self.chunks:
                    self._learn(file, chunk)
        self._merge_connections()

    # -- what the file holds -------------------------------------------------------------------------------------

    def _scan(self, file: PlainFile) -> None:
        position = len(MAGIC)
        budget = FREE_FILE_BYTES + MAX_FILE_RATIO * file.size
        while position < file.size:
            try:
                record = _record(file, position)
                budget -= self._take(file, record)
                if budget < 0:
                    self.damage.append(
                        f"the chunks from byte {position} on are left out: the file has {file.size} bytes and "
                        f"decompresses to more than {FREE_FILE_BYTES + MAX_FILE_RATIO * file.size}"
                    )
                    return
            except _BrokenError as error:
                following = _next_chunk(file, position + 1)
                if following is None:
                    self.damage.append(f"{error} at byte {position}; nothing follows that can be read")
                    return
                self.damage.append(f"{error} at byte {position}; {following - position} bytes are left out")
                position = following
                continue
            position = record.end

    def _take(self, file: PlainFile, record: _Record) -> int:
        """Take up a record; gives back how many bytes its chunk has."""
        size = record.end - record.begin
        if record.operation == CHUNK:
            compression = _field(record.fields, b"compression", None).decode("latin-1")
            unpacked = _number(record.fields, b"size")
            self.chunks.append(Ros1Chunk(record.position, 0, 0, {}, compression, unpacked, record.begin, record.end))
            return unpacked
        if record.operation == MESSAGE:
            time_ns = _time(record.fields, b"time")
            self.loose.add(_number(record.fields, b"conn"), time_ns, record.begin, record.end)
            return 0
        if record.operation not in (BAG_HEADER, INDEX, CHUNK_INFO, CONNECTION):
            raise _BrokenError("a record of no known kind")
        if size > MAX_SMALL_RECORD_BYTES:
            raise _BrokenError("a record is too large for its kind")
        data = file.read(record.begin, size)
        if record.operation == BAG_HEADER:
            self._header = record.fields
        elif record.operation == INDEX:
            self._take_index(record, data)
        elif record.operation == CHUNK_INFO:
            counts = np.frombuffer(data[: size // 8 * 8], _COUNT)
            if len(counts) != _number(record.fields, b"count") or size % 8:
                raise _BrokenError("a part of the index contradicts itself")
            self._infos[_number(record.fields, b"chunk_pos", _U64)] = (
                _time(record.fields, b"start_time"),
                _time(record.fields, b"end_time"),
                {int(entry["connection"]): int(entry["count"]) for entry in counts if entry["count"]},
            )
        else:
            self._define(self._in_index, record.fields, data, self.damage)
        return 0

    def _take_index(self, record: _Record, data: bytes) -> None:
        entries = np.frombuffer(data[: len(data) // 12 * 12], _ENTRY)
        if len(entries) != _number(record.fields, b"count") or len(data) % 12 or not self.chunks:
            raise _BrokenError("the index of a chunk contradicts itself")
        chunk = self.chunks[-1]
        assert isinstance(chunk, Ros1Chunk)
        chunk.has_index = True
        if not len(entries):
            return
        times = entries["sec"].astype(np.int64) * 1_000_000_000 + entries["nsec"]
        connection = _number(record.fields, b"conn")
        if connection in chunk.counts:
            self.damage.append(f"the chunk at byte {chunk.position} has two indexes of one topic")
        before = bool(chunk.counts)
        chunk.counts[connection] = len(entries)
        first, last = int(times.min()), int(times.max())
        chunk.start_ns = min(chunk.start_ns, first) if before else first
        chunk.end_ns = max(chunk.end_ns, last) if before else last

    def _is_indexed(self) -> bool:
        """Whether it is known without reading the chunks what they hold; contradictions are named."""
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
            known = known and chunk.has_index
        for position in infos:
            self.damage.append(f"its index lists a chunk at byte {position}, where none is")
            known = False
        for name, there in ((b"chunk_count", len(self.chunks)), (b"conn_count", len(self._in_index))):
            said = int.from_bytes(self._header.get(name, b""), "little")
            if said != there:
                self.damage.append(f"its header announces {said} as its {name.decode()}; it has {there}")
                known = False
        return known

    def _define_connections(self, file: PlainFile) -> None:
        """Read the chunk of each topic's first message: the topic is defined there as well."""
        wanted = set(self._channel_counts())
        for chunk in self.chunks:
            if not wanted.isdisjoint(chunk.counts):
                wanted -= chunk.counts.keys()
                try:
                    self._contents(file, chunk, [])
                except ChunkError:
                    continue  # it is met, and named, again when its messages are read

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
            number, topic = _connection(fields, data)
        except _BrokenError as error:
            damage.append(f"a definition of a topic cannot be read ({error})")
            return
        if part.setdefault(number, topic) != topic:
            damage.append(f"topic {number} is defined twice, differently ({topic.name[:60]!r})")

    # -- a chunk -------------------------------------------------------------------------------------------------

    def _contents(self, file: PlainFile, chunk: Chunk, damage: list[str]) -> ChunkContents:
        assert isinstance(chunk, Ros1Chunk)
        if max(chunk.size, chunk.end - chunk.begin) > MAX_CHUNK_BYTES:
            raise ChunkError(f"it says that it has {chunk.size} bytes; at most {MAX_CHUNK_BYTES} are read")
        try:
            data = decompressed(file.read(chunk.begin, chunk.end - chunk.begin), chunk.compression, chunk.size)
        except DecompressionError as error:
            raise ChunkError(str(error)) from error
        if len(data) != chunk.size:
            raise ChunkError(f"it has {len(data)} bytes instead of {chunk.size}")
        view = memoryview(data)
        messages: list[tuple[int, int, int, int]] = []
        position = 0
        try:
            for record in _records(data):
                position = record.end
                if record.operation == MESSAGE:
                    time_ns = _time(record.fields, b"time")
                    messages.append((_number(record.fields, b"conn"), time_ns, record.begin, record.end))
                elif record.operation == CONNECTION:
                    self._define(self._in_data, record.fields, data[record.begin : record.end], damage)
                else:
                    damage.append(f"the chunk at byte {chunk.position} holds a record that belongs into no chunk")
        except _BrokenError as error:
            damage.append(
                f"the chunk at byte {chunk.position} breaks off ({error}): {len(data) - position} bytes are left out"
            )
        return ChunkContents(view, messages)


def _record(file: PlainFile, position: int) -> _Record:
    """The record that begins there.

    Raises:
        _BrokenError: none does.
    """
    head = file.near(position, 4)
    length = _U32.unpack(head)[0] if len(head) == 4 else 0
    if not 0 < length <= MAX_HEADER_BYTES:
        raise _BrokenError("a record is cut" if len(head) < 4 else "no record begins")
    bytes_ = file.near(position + 4, length + 4)
    if len(bytes_) < length + 4:
        raise _BrokenError("a record is cut")
    fields = _fields(bytes_[:length])
    begin = position + 8 + length
    end = begin + int(_U32.unpack_from(bytes_, length)[0])
    if end > file.size:
        raise _BrokenError("a record goes beyond the end of the file")
    return _Record(_operation(fields), fields, position, begin, end)


def _records(data: bytes) -> Iterator[_Record]:
    """The records of a chunk."""
    position, size, remaining = 0, len(data), MAX_CHUNK_RECORDS
    while position < size:
        remaining -= 1
        if position + 4 > size or remaining < 0:
            raise _BrokenError("a record is cut" if remaining >= 0 else "too many records")
        (length,) = _U32.unpack_from(data, position)
        begin = position + 8 + length
        if length > MAX_HEADER_BYTES or begin > size:
            raise _BrokenError("a record is cut")
        fields = _fields(data[position + 4 : position + 4 + length])
        end = begin + int(_U32.unpack_from(data, begin - 4)[0])
        if end > size:
            raise _BrokenError("a record is cut")
        yield _Record(_operation(fields), fields, position, begin, end)
        position = end


def _fields(header: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(header):
        size = int.from_bytes(header[position : position + 4], "little")
        field = header[position + 4 : position + 4 + size]
        name, separator, value = field.partition(b"=")
        if len(field) != size or not separator:
            raise _BrokenError("a header contradicts itself")
        found[name] = value
        position += 4 + size
    return found


def _operation(fields: dict[bytes, bytes]) -> int:
    return _field(fields, b"op", 1)[0]


def _field(fields: dict[bytes, bytes], name: bytes, size: int | None) -> bytes:
    value = fields.get(name)
    if value is None or (size is not None and len(value) != size):
        raise _BrokenError(f"a record has no {name.decode()}")
    return value


def _number(fields: dict[bytes, bytes], name: bytes, layout: struct.Struct = _U32) -> int:
    return int(layout.unpack(_field(fields, name, layout.size))[0])


def _time(fields: dict[bytes, bytes], name: bytes) -> int:
    seconds, nanoseconds = _TIME.unpack(_field(fields, name, _TIME.size))
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _connection(fields: dict[bytes, bytes], data: bytes) -> tuple[int, StoredTopic]:
    number = _number(fields, b"conn")
    described = _fields(data)
    try:
        topic, kind, text = (
            _field(part, name, None).decode()
            for part, name in ((fields, b"topic"), (described, b"type"), (described, b"message_definition"))
        )
    except UnicodeDecodeError as error:
        raise _BrokenError("a text is not UTF-8") from error
    plain = "/" * topic.startswith("/") + "/".join(level for level in topic.split("/") if level)
    path = PurePosixPath(kind)
    return number, StoredTopic(plain, f"{path.parent}/msg/{path.name}", "ros2msg", (text,))


def _next_chunk(file: PlainFile, position: int) -> int | None:
    while position < file.size:
        block = file.read(position, _SEARCHED_AT_ONCE)
        for found in _CHUNK_START.finditer(block):
            place = position + found.start()
            for begin in range(place - 4, max(position - 1, place - _LONGEST_FIELD_BEFORE), -1):
                try:
                    record = _record(file, begin)
                    _number(record.fields, b"size")
                except _BrokenError:
                    continue
                if record.operation == CHUNK:
                    return begin
        if len(block) < _SEARCHED_AT_ONCE:
            return None
        position += len(block) - _LONGEST_FIELD_BEFORE
    return None
