"""What can still be read of an MCAP file that is cut, damaged or has no index. Only used where `rosbags` gives up.

Records are walked from the front. Where one cannot be right, the next chunk that can be is looked for; a chunk whose
checksum is wrong is left out as a whole. Everything that was left out is named in `damage`.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
LAST_OPCODE = 0x0F
FOOTER_BYTES = 37
MAX_CHUNK_BYTES = 1 << 31
"""No recorder writes larger ones; a damaged length would have the decompressor ask for all memory."""
_CHUNK_START = re.compile(rb"\x06.{36}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd)", re.DOTALL)


@dataclass(frozen=True)
class McapSchema:
    """Name of a message type and its definition."""

    name: str
    encoding: str
    definition: str


@dataclass(frozen=True)
class McapChannel:
    """A topic, and the id of its schema."""

    topic: str
    schema: int
    encoding: str


class _BrokenError(ValueError):
    """Bytes that are not what they should be; the message says what."""


class DamagedMcap:
    """Opens the file; `close` it.

    Attributes:
        schemas, channels: by id, from wherever in the file they are found.
        damage: what could not be read, a sentence each; complete once `messages` has come to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.schemas: dict[int, McapSchema] = {}
        self.channels: dict[int, McapChannel] = {}
        self.damage: list[str] = []
        self._unknown_channels = 0
        with path.open("rb") as file:
            size = path.stat().st_size
            self._bytes: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        # Once over all of it: the definitions of a topic may come after its first messages, or only in the summary.
        for operation, begin, end in self._records([]):
            self._learn(operation, begin, end, [])

    def close(self) -> None:
        """Close the file."""
        if self._bytes:
            self._bytes.close()

    def messages(self) -> Iterator[tuple[str, str, int, bytes]]:
        """Topic, message type, log time in nanoseconds, serialised message; chunk by chunk, each in order of time."""
        self.damage = []
        self._unknown_channels = 0
        for operation, begin, end in self._records(self.damage):
            if operation == MESSAGE:
                yield from self._of_channel(self._message(self._bytes[begin:end]))
            elif operation == CHUNK:
                found = []
                for inner, contents in self._chunk(begin, end, self.damage):
                    if inner == MESSAGE:
                        found += list(self._of_channel(self._message(contents)))
                yield from sorted(found, key=lambda message: message[2])
        if self._unknown_channels:
            self.damage.append(f"{self._unknown_channels} messages are of topics whose definition cannot be read")

    # -- records -------------------------------------------------------------------------------------------------

    def _records(self, damage: list[str]) -> Iterator[tuple[int, int, int]]:
        """Operation, first and last byte of the contents of every record that can be right."""
        data, size = self._bytes, len(self._bytes)
        position = len(MAGIC)
        if data[:position] != MAGIC:
            damage.append("it does not begin as an MCAP file does")
        record = 0
        while position < size:
            problem = self._problem_at(position)
            if problem is None:
                operation = data[position]
                begin, end = position + 9, position + 9 + self._length(position)
                yield operation, begin, end
                if operation == FOOTER:
                    return
                record, position = position, end
                continue
            following = self._next_chunk(max(record, 0) + 1)
            if following is None:
                following = self._summary(position)
            if following is None:
                if self._is_cut_chunk(position):
                    yield CHUNK, position + 9, size
                damage.append(f"{problem} at byte {position}; nothing follows that can be read ({size} bytes in all)")
                return
            damage.append(f"{problem} at byte {position}; {following - position} bytes are left out")
            record = position = following
        damage.append(f"it ends at byte {size} without a footer: it was cut, or its recorder was killed")

    def _length(self, position: int) -> int:
        return int.from_bytes(self._bytes[position + 1 : position + 9], "little")

    def _problem_at(self, position: int) -> str | None:
        """Why no record begins there; None if one may."""
        data, size = self._bytes, len(self._bytes)
        if position + 9 > size:
            return "a record is cut"
        operation, length = data[position], self._length(position)
        if operation == 0 or LAST_OPCODE < operation < 0x80:
            return "a record of no known kind"
        if position + 9 + length > size:
            return "a record goes beyond the end of the file"
        if operation == CHUNK and not self._is_chunk(position):
            return "a chunk contradicts itself"
        if operation == MESSAGE and length < 22:
            return "a message is too short"
        if operation == FOOTER and length != 20:
            return "the footer has a wrong length"
        return None

    def _is_chunk(self, position: int) -> bool:
        data = self._bytes
        length = self._length(position)
        if length < 40 or position + 9 + length > len(data):
            return False
        start, end, uncompressed, _ = struct.unpack_from("<QQQI", data, position + 9)
        (name_length,) = struct.unpack_from("<I", data, position + 37)
        if name_length > 4 or uncompressed > MAX_CHUNK_BYTES or length < 40 + name_length:
            return False
        (compressed,) = struct.unpack_from("<Q", data, position + 41 + name_length)
        return bool(start <= end and compressed == length - 40 - name_length)

    def _is_cut_chunk(self, position: int) -> bool:
        """An uncompressed chunk whose beginning is there: its first messages may be whole."""
        data = self._bytes
        return (
            len(data) >= position + 49 and data[position] == CHUNK and data[position + 37 : position + 41] == b"\0" * 4
        )

    def _next_chunk(self, position: int) -> int | None:
        found = _CHUNK_START.search(self._bytes, position)
        while found is not None and not self._is_chunk(found.start()):
            found = _CHUNK_START.search(self._bytes, found.start() + 1)
        return None if found is None else found.start()

    def _summary(self, position: int) -> int | None:
        """Where the summary begins, if the footer is there and says so."""
        data, footer = self._bytes, len(self._bytes) - FOOTER_BYTES
        if footer <= position or data[-8:] != MAGIC or data[footer] != FOOTER or self._length(footer) != 20:
            return None
        start = int.from_bytes(data[footer + 9 : footer + 17], "little")
        return start if position < start <= footer and self._problem_at(start) is None else None

    # -- contents ------------------------------------------------------------------------------------------------

    def _learn(self, operation: int, begin: int, end: int, damage: list[str]) -> None:
        if operation == CHUNK:
            for inner, contents in self._chunk(begin, end, damage):
                self._define(inner, contents)
        else:
            self._define(operation, self._bytes[begin:end])

    def _define(self, operation: int, contents: bytes) -> None:
        try:
            if operation == SCHEMA:
                number, rest = _number(contents, 2)
                name, rest = _text(rest)
                encoding, rest = _text(rest)
                self.schemas.setdefault(number, McapSchema(name, encoding, _text(rest)[0]))
            elif operation == CHANNEL:
                number, rest = _number(contents, 2)
                schema, rest = _number(rest, 2)
                topic, rest = _text(rest)
                self.channels.setdefault(number, McapChannel(topic, schema, _text(rest)[0]))
        except (_BrokenError, UnicodeDecodeError):
            # Another copy may be whole; if none is, the messages of the topic are counted as unreadable.
            return

    def _chunk(self, begin: int, end: int, damage: list[str]) -> Iterator[tuple[int, bytes]]:
        """Operation and contents of each record in a chunk."""
        try:
            contents = _decompressed(self._bytes[begin:end])
        except _BrokenError as error:
            damage.append(f"the chunk at byte {begin - 9} is left out: {error}")
            return
        position = 0
        while position < len(contents):
            stop = position + 9
            if stop <= len(contents):
                stop += int.from_bytes(contents[position + 1 : position + 9], "little")
            if stop > len(contents) or not 0 < contents[position] <= LAST_OPCODE:
                damage.append(
                    f"the chunk at byte {begin - 9} breaks off: {len(contents) - position} bytes are left out"
                )
                return
            operation, inside = contents[position], contents[position + 9 : stop]
            if operation == MESSAGE and len(inside) < 22:
                damage.append(f"the chunk at byte {begin - 9} holds a message that is too short")
            else:
                yield operation, inside
            position = stop

    def _message(self, contents: bytes) -> tuple[int, int, bytes]:
        channel, _, log_time, _ = struct.unpack_from("<HIQQ", contents)
        return channel, log_time, contents[22:]

    def _of_channel(self, message: tuple[int, int, bytes]) -> Iterator[tuple[str, str, int, bytes]]:
        number, log_time, data = message
        channel = self.channels.get(number)
        schema = None if channel is None else self.schemas.get(channel.schema)
        if channel is None or schema is None or channel.encoding != "cdr":
            self._unknown_channels += 1
            return
        yield channel.topic, schema.name, log_time, data


def _number(data: bytes, size: int) -> tuple[int, bytes]:
    if len(data) < size:
        raise _BrokenError("cut")
    return int.from_bytes(data[:size], "little"), data[size:]


def _text(data: bytes) -> tuple[str, bytes]:
    length, rest = _number(data, 4)
    if length > len(rest):
        raise _BrokenError("cut")
    return rest[:length].decode(), rest[length:]


def _decompressed(record: bytes) -> bytes:
    _, _, size, crc = struct.unpack_from("<QQQI", record)
    name_length = int.from_bytes(record[28:32], "little")
    compression, data = record[32 : 32 + name_length], record[40 + name_length :]
    if not compression and len(data) < int.from_bytes(record[32:40], "little"):
        # Cut with the file: what is there of it cannot be checked, and `_chunk` says where it breaks off.
        return data
    try:
        if compression == b"lz4":
            from lz4.frame import decompress as lz4_decompress

            data = lz4_decompress(data)
        elif compression == b"zstd":
            data = _zstd(data, size)
        elif compression:
            raise _BrokenError(f"its compression is {compression!r}")
    except _BrokenError:
        raise
    except Exception as error:  # lz4 and zstd have errors of their own, without a common base
        raise _BrokenError(f"it cannot be decompressed ({error})") from error
    if len(data) != size:
        raise _BrokenError(f"it has {len(data)} bytes instead of {size}")
    if crc and zlib.crc32(data) != crc:
        raise _BrokenError("its checksum is wrong")
    return data


def _zstd(data: bytes, size: int) -> bytes:
    # What `rosbags` itself decompresses with.
    from backports.zstd import ZstdDecompressor

    found = ZstdDecompressor().decompress(data, size + 1)
    return bytes(found)
