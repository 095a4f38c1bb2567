"""The records of a ROS 1 bag (http://wiki.ros.org/Bags/Format/2.0), each checked against its own lengths."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND
from ros_ood_perception.recordings.chunked_file import MAX_CHUNK_RECORDS, BrokenRecordError, StoredTopic

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)
MAX_HEADER_BYTES = 1 << 16
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
_TIME = struct.Struct("<II")
ENTRY = np.dtype([("sec", "<u4"), ("nsec", "<u4"), ("offset", "<u4")])
COUNT = np.dtype([("connection", "<u4"), ("count", "<u4")])
_CHUNK_START = re.compile(rb"\x04\x00\x00\x00op=\x05", re.DOTALL)
_SEARCHED_AT_ONCE = 1 << 20
_LONGEST_FIELD_BEFORE = 64


@dataclass(frozen=True)
class Record:
    """One record: its fields, and the position of its data."""

    operation: int
    fields: dict[bytes, bytes]
    position: int
    begin: int
    end: int


def entry_times(entries: NDArray[Any]) -> NDArray[np.int64]:
    """Times (N,) int64 of index entries (`ENTRY`), nanoseconds."""
    return np.asarray(entries["sec"].astype(np.int64) * NANOSECONDS_PER_SECOND + entries["nsec"], np.int64)


def record_at(file: PlainFile, position: int) -> Record:
    """The record that begins there.

    Raises:
        BrokenRecordError: no record does.
    """
    head = file.near(position, 4)
    length = U32.unpack(head)[0] if len(head) == 4 else 0
    if not 0 < length <= MAX_HEADER_BYTES:
        raise BrokenRecordError("a record is cut" if len(head) < 4 else "no record begins")
    bytes_ = file.near(position + 4, length + 4)
    if len(bytes_) < length + 4:
        raise BrokenRecordError("a record is cut")
    fields = fields_of(bytes_[:length])
    begin = position + 8 + length
    end = begin + int(U32.unpack_from(bytes_, length)[0])
    if end > file.size:
        raise BrokenRecordError("a record goes beyond the end of the file")
    return Record(operation_of(fields), fields, position, begin, end)


def records_of(data: bytes) -> Iterator[Record]:
    """The records of a chunk."""
    position, size, remaining = 0, len(data), MAX_CHUNK_RECORDS
    while position < size:
        remaining -= 1
        if position + 4 > size or remaining < 0:
            raise BrokenRecordError("a record is cut" if remaining >= 0 else "too many records")
        (length,) = U32.unpack_from(data, position)
        begin = position + 8 + length
        if length > MAX_HEADER_BYTES or begin > size:
            raise BrokenRecordError("a record is cut")
        fields = fields_of(data[position + 4 : position + 4 + length])
        end = begin + int(U32.unpack_from(data, begin - 4)[0])
        if end > size:
            raise BrokenRecordError("a record is cut")
        yield Record(operation_of(fields), fields, position, begin, end)
        position = end


def fields_of(header: bytes) -> dict[bytes, bytes]:
    """The fields of a header."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(header):
        size = int.from_bytes(header[position : position + 4], "little")
        field = header[position + 4 : position + 4 + size]
        name, separator, value = field.partition(b"=")
        if len(field) != size or not separator:
            raise BrokenRecordError("the lengths of a header do not match")
        found[name] = value
        position += 4 + size
    return found


def operation_of(fields: dict[bytes, bytes]) -> int:
    """The kind of a record."""
    return field_of(fields, b"op", 1)[0]


def field_of(fields: dict[bytes, bytes], name: bytes, size: int | None) -> bytes:
    """A required field of `size` bytes; None: of any size."""
    value = fields.get(name)
    if value is None or (size is not None and len(value) != size):
        raise BrokenRecordError(f"a record has no {name.decode()}")
    return value


def number_of(fields: dict[bytes, bytes], name: bytes, layout: struct.Struct = U32) -> int:
    """A required number."""
    return int(layout.unpack(field_of(fields, name, layout.size))[0])


def time_of(fields: dict[bytes, bytes], name: bytes) -> int:
    """A required time, nanoseconds."""
    seconds, nanoseconds = _TIME.unpack(field_of(fields, name, _TIME.size))
    return int(seconds) * NANOSECONDS_PER_SECOND + int(nanoseconds)


def connection_of(fields: dict[bytes, bytes], data: bytes) -> tuple[int, StoredTopic]:
    """Number and topic of a connection record, with names as in ROS 2."""
    number = number_of(fields, b"conn")
    described = fields_of(data)
    try:
        topic, kind, text = (
            field_of(part, name, None).decode()
            for part, name in ((fields, b"topic"), (described, b"type"), (described, b"message_definition"))
        )
    except UnicodeDecodeError as error:
        raise BrokenRecordError("a text is not UTF-8") from error
    plain = "/" * topic.startswith("/") + "/".join(level for level in topic.split("/") if level)
    path = PurePosixPath(kind)
    return number, StoredTopic(plain, f"{path.parent}/msg/{path.name}", "ros2msg", (text,))


def next_chunk(file: PlainFile, position: int) -> int | None:
    """The position of the next valid chunk."""
    while position < file.size:
        block = file.read(position, _SEARCHED_AT_ONCE)
        for found in _CHUNK_START.finditer(block):
            place = position + found.start()
            for begin in range(place - 4, max(position - 1, place - _LONGEST_FIELD_BEFORE), -1):
                try:
                    record = record_at(file, begin)
                    number_of(record.fields, b"size")
                except BrokenRecordError:
                    continue
                if record.operation == CHUNK:
                    return begin
        if len(block) < _SEARCHED_AT_ONCE:
            return None
        position += len(block) - _LONGEST_FIELD_BEFORE
    return None
