"""The records of an MCAP file, each checked against its own length (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from ros_ood_perception.recordings.chunked_file import BrokenRecordError

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)
FIRST_PRIVATE = 0x80
FOOTER_BYTES = 20
RECORD_HEADER_BYTES = 9
MESSAGE_HEADER_BYTES = 22
CHUNK_HEADER_BYTES = 40
"""Size of a chunk's header, without the name of the compression."""
MAX_SMALL_RECORD_BYTES = 1 << 24
"""Largest record that is not a chunk, a message or an attachment."""
COMPRESSIONS = (b"", b"lz4", b"zstd")


@dataclass(frozen=True)
class McapSchema:
    """Name of a message type and its definition."""

    name: str
    encoding: str
    definition: str


@dataclass(frozen=True)
class McapChannel:
    """A topic, the id of its schema, and the encoding of its messages."""

    topic: str
    schema: int
    encoding: str


class ChunkHeader(NamedTuple):
    """The header of a chunk, and where its data begin within the record."""

    start_ns: int
    end_ns: int
    size: int
    crc: int
    compression: bytes
    compressed_size: int
    data_begin: int


class ChunkIndex(NamedTuple):
    """An entry of the chunk index; `offsets`: channel to the position of its message index."""

    start_ns: int
    end_ns: int
    position: int
    length: int
    offsets: dict[int, int]
    compression: bytes
    compressed_size: int
    size: int


class Fields:
    """Reads the fields of a record one after the other.

    Raises:
        BrokenRecordError: the record is too short.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        """Integers of this layout."""
        return layout.unpack(self.take(layout.size))

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        begin, end = self._position, self._position + size
        if end > len(self._data):
            raise BrokenRecordError("a record is too short for its fields")
        self._position = end
        return self._data[begin:end]

    def counted(self) -> bytes:
        """A byte string, which follows its length."""
        (size,) = self.numbers(_U32)
        return self.take(size)

    def text(self) -> str:
        """A string."""
        try:
            return self.counted().decode()
        except UnicodeDecodeError as error:
            raise BrokenRecordError("a text is not UTF-8") from error

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            BrokenRecordError: something does.
        """
        if self._position != len(self._data):
            raise BrokenRecordError("a record is longer than its fields")


_U32 = struct.Struct("<I")
_ID = struct.Struct("<H")
_IDS = struct.Struct("<HH")
_CHUNK = struct.Struct("<QQQI")
_CHUNK_INDEX = struct.Struct("<QQQQ")
_U64 = struct.Struct("<Q")
_SIZES = struct.Struct("<QQ")
_STATISTICS = struct.Struct("<QHIIIIQQ")
_ATTACHMENT_TIMES = struct.Struct("<QQ")
_FOOTER = struct.Struct("<QQI")


def schema(data: bytes) -> tuple[int, McapSchema]:
    """Id and schema of a schema record."""
    fields = Fields(data)
    (number,) = fields.numbers(_ID)
    found = McapSchema(fields.text(), fields.text(), fields.text())
    fields.end()
    return number, found


def channel(data: bytes) -> tuple[int, McapChannel]:
    """Id and channel of a channel record."""
    fields = Fields(data)
    number, schema_number = fields.numbers(_IDS)
    found = McapChannel(fields.text(), schema_number, fields.text())
    fields.counted()
    fields.end()
    return number, found


def chunk_header(data: bytes, length: int | None) -> ChunkHeader:
    """The header of a chunk, from the first 64 bytes or more of its record.

    Args:
        length: size of the record's contents, bytes; None: unknown.
    """
    fields = Fields(data)
    start, end, size, crc = fields.numbers(_CHUNK)
    compression = fields.counted()
    (compressed,) = fields.numbers(_U64)
    begin = CHUNK_HEADER_BYTES + len(compression)
    if length is not None and compressed != length - begin:
        raise BrokenRecordError("the lengths of a chunk do not match")
    return ChunkHeader(start, end, size, crc, compression, compressed, begin)


def message_index(data: bytes, length: int) -> tuple[int, int]:
    """Channel and number of messages, from the first 6 bytes or more of a message index."""
    fields = Fields(data)
    (number,), (size,) = fields.numbers(_ID), fields.numbers(_U32)
    if size != length - 6 or size % 16:
        raise BrokenRecordError("the lengths of a message index do not match")
    return number, size // 16


def chunk_index(data: bytes) -> ChunkIndex:
    """A chunk index."""
    fields = Fields(data)
    start, end, position, length = fields.numbers(_CHUNK_INDEX)
    pairs = fields.counted()
    if len(pairs) % 10:
        raise BrokenRecordError("the lengths of a chunk index do not match")
    offsets = dict(struct.iter_unpack("<HQ", pairs))
    fields.numbers(_U64)
    compression = fields.counted()
    compressed, size = fields.numbers(_SIZES)
    fields.end()
    return ChunkIndex(start, end, position, length, offsets, compression, compressed, size)


def statistics(data: bytes) -> tuple[int, int, dict[int, int]]:
    """Number of messages, of chunks, and of messages by channel."""
    fields = Fields(data)
    messages, _, _, _, _, chunks, _, _ = fields.numbers(_STATISTICS)
    pairs = fields.counted()
    if len(pairs) % 10:
        raise BrokenRecordError("the lengths of the statistics do not match")
    fields.end()
    return messages, chunks, dict(struct.iter_unpack("<HQ", pairs))


def metadata(data: bytes) -> tuple[str, dict[str, str]]:
    """Name, and keys with their values."""
    fields = Fields(data)
    name, pairs = fields.text(), Fields(fields.counted())
    fields.end()
    found = {}
    while True:
        try:
            pairs.end()
        except BrokenRecordError:
            found[pairs.text()] = pairs.text()
            continue
        return name, found


def footer(data: bytes) -> tuple[int, int, int]:
    """Start of the summary, start of its offsets, and its checksum (0: none)."""
    fields = Fields(data)
    start, offsets, crc = fields.numbers(_FOOTER)
    fields.end()
    return start, offsets, crc


def check_header(data: bytes) -> None:
    """Check the header, which is the first record."""
    fields = Fields(data)
    fields.text()
    fields.text()
    fields.end()


def attachment_begin(data: bytes, length: int) -> None:
    """Check the first bytes of an attachment: its lengths must add up."""
    fields = Fields(data)
    fields.numbers(_ATTACHMENT_TIMES)
    name, kind = fields.counted(), fields.counted()
    (size,) = fields.numbers(_U64)
    if 16 + 8 + len(name) + len(kind) + 8 + size + 4 != length:
        raise BrokenRecordError("the lengths of an attachment do not match")
