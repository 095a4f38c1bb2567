"""Scans an MCAP file from its first byte to its last, whatever its summary says.

After bytes that are not a record, the scan continues at the next valid chunk or message. `damage` names what it skips.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.recordings.chunked_file import BrokenRecordError
from ros_ood_perception.recordings.mcap import records

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_HEAD_BYTES = 64
MAX_FAULTS = 10_000
_SEARCHED_AT_ONCE = 1 << 20
_CHUNK_PATTERN = rb"\x06.{36}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd)"
_LONGEST_PATTERN = 45
_PARSERS: dict[int, Callable[[bytes], Any]] = {
    records.HEADER: records.check_header,
    records.FOOTER: records.footer,
    records.SCHEMA: records.schema,
    records.CHANNEL: records.channel,
    records.CHUNK_INDEX: records.chunk_index,
    records.STATISTICS: records.statistics,
    records.METADATA: records.metadata,
}


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        begin, end: position of its contents, bytes from the file's beginning.
        parsed: the result of its function in `records`; channel and time of a message; None for other kinds.
        cut: the file ends before the record.
    """

    operation: int
    position: int
    begin: int
    end: int
    parsed: Any
    cut: bool = False


class McapScan:
    """One pass over a file.

    Attributes:
        damage: a sentence for each place that is not a record.
        known_channels: channel ids that a message can have. While it is empty, no message is searched for after damage.
    """

    def __init__(self, file: PlainFile) -> None:
        self._file = file
        self.damage: list[str] = []
        self.known_channels: set[int] = set()

    def records(self) -> Iterator[Record]:
        """All readable records in the order of the file."""
        file = self._file
        position = len(records.MAGIC)
        if file.near(0, position) != records.MAGIC:
            self.damage.append("it does not begin as an MCAP file does")
        while position < file.size:
            try:
                record = self._record(position)
            except BrokenRecordError as error:
                if len(self.damage) >= MAX_FAULTS:
                    self.damage.append(f"it has too many faults: what follows byte {position} is left out")
                    return
                chunk = self._mended_chunk(position)
                if chunk is not None:
                    self.damage.append(f"{error} at byte {position}; it is read as a chunk, as its lengths fit")
                    yield chunk
                    position = chunk.end
                    continue
                following = self._following(position)
                if following is None:
                    cut = self._cut_chunk(position)
                    if cut is not None:
                        yield cut
                    self.damage.append(
                        f"{error} at byte {position}; nothing follows that can be read ({file.size} bytes in all)"
                    )
                    return
                self.damage.append(f"{error} at byte {position}; {following - position} bytes are left out")
                position = following
                continue
            if record.operation >= records.FIRST_PRIVATE:
                self.damage.append(f"a record of the unknown kind {record.operation} at byte {position} is left out")
            yield record
            position = record.end
            if record.operation == records.FOOTER:
                if position + len(records.MAGIC) >= file.size:
                    if file.read(position, len(records.MAGIC)) != records.MAGIC:
                        self.damage.append("it does not end as an MCAP file does")
                    return
                self.damage.append(f"its footer, at byte {record.position}, is not at its end")
        self.damage.append(f"it ends at byte {file.size} without a footer: it was cut, or its recorder was killed")

    def _record(self, position: int) -> Record:
        """The record that begins there.

        Raises:
            BrokenRecordError: no record does.
        """
        head = self._file.near(position, _HEAD_BYTES)
        if len(head) < records.RECORD_HEADER_BYTES:
            raise BrokenRecordError("a record is cut")
        operation, length = _RECORD.unpack_from(head)
        begin = position + records.RECORD_HEADER_BYTES
        end = begin + length
        if operation == 0 or records.DATA_END < operation < records.FIRST_PRIVATE:
            raise BrokenRecordError("a record of no known kind")
        if end > self._file.size:
            raise BrokenRecordError("a record goes beyond the end of the file")
        return Record(operation, position, begin, end, self._parsed(operation, begin, length, head[9:]))

    def _parsed(self, operation: int, begin: int, length: int, head: bytes) -> Any:
        head = head[:length]
        if operation == records.MESSAGE:
            if length < records.MESSAGE_HEADER_BYTES:
                raise BrokenRecordError("a message is too short")
            channel, _, time_ns, _ = _MESSAGE.unpack_from(head)
            return channel, time_ns
        if operation == records.CHUNK:
            return records.chunk_header(head, length)
        if operation == records.MESSAGE_INDEX:
            return records.message_index(head, length)
        if operation == records.ATTACHMENT:
            return records.attachment_begin(self._file.read(begin, min(length, 1 << 13)), length)
        if operation in _PARSERS:
            if length > records.MAX_SMALL_RECORD_BYTES:
                raise BrokenRecordError("a record is too large for its kind")
            return _PARSERS[operation](self._file.near(begin, length))
        if operation == records.DATA_END:
            if length != 4:
                raise BrokenRecordError("the length of the data end record is wrong")
            return int.from_bytes(head[:4], "little")
        return None

    # -- after damage --------------------------------------------------------------------------------------------

    def _following(self, position: int) -> int | None:
        """Where the scan continues after a broken record."""
        head = self._file.near(position, records.RECORD_HEADER_BYTES)
        if len(head) == records.RECORD_HEADER_BYTES:
            end = position + records.RECORD_HEADER_BYTES + int(_RECORD.unpack(head)[1])
            if end < self._file.size and self._may_follow(end):
                return end
        places = [place for place in (self._next(position + 1), self._summary(position)) if place is not None]
        return min(places, default=None)

    def _mended_chunk(self, position: int) -> Record | None:
        """The chunk at a position, where only its kind or one of its two lengths is wrong."""
        head = self._file.near(position, _HEAD_BYTES)
        begin = position + records.RECORD_HEADER_BYTES
        try:
            header = records.chunk_header(head[records.RECORD_HEADER_BYTES :], None)
        except BrokenRecordError:
            return None
        if header.compression not in records.COMPRESSIONS or header.start_ns > header.end_ns:
            return None
        said = int(_RECORD.unpack_from(head)[1]) - header.data_begin
        for size in (header.compressed_size, said):
            end = begin + header.data_begin + size
            if size > 0 and end < self._file.size and self._may_follow(end):
                mended = header._replace(compressed_size=size)
                return Record(records.CHUNK, position, begin, end, mended)
        return None

    def _may_follow(self, position: int) -> bool:
        if position >= self._file.size:
            return position == self._file.size
        try:
            self._record(position)
        except BrokenRecordError:
            return False
        return True

    def _next(self, position: int) -> int | None:
        """The position of the next chunk or message."""
        pattern = re.compile(_CHUNK_PATTERN + _message_pattern(self.known_channels), re.DOTALL)
        while position < self._file.size:
            block = self._file.read(position, _SEARCHED_AT_ONCE)
            for found in pattern.finditer(block):
                place = position + found.start()
                try:
                    record = self._record(place)
                except BrokenRecordError:
                    continue
                if record.operation == records.CHUNK or self._may_follow(record.end):
                    return place
            if len(block) < _SEARCHED_AT_ONCE:
                return None
            position += len(block) - _LONGEST_PATTERN
        return None

    def _summary(self, position: int) -> int | None:
        """The start of the summary, where the footer is there and gives it."""
        place = self._file.size - len(records.MAGIC) - records.FOOTER_BYTES - records.RECORD_HEADER_BYTES
        if place <= position:
            return None
        try:
            footer = self._record(place)
        except BrokenRecordError:
            return None
        if footer.operation != records.FOOTER:
            return None
        start = int(footer.parsed[0])
        return start if position < start <= place and self._may_follow(start) else place

    def _cut_chunk(self, position: int) -> Record | None:
        """A chunk that is cut: its first messages may be complete."""
        head = self._file.near(position, _HEAD_BYTES)
        if len(head) < records.RECORD_HEADER_BYTES + records.CHUNK_HEADER_BYTES:
            return None
        operation, length = _RECORD.unpack_from(head)
        begin = position + records.RECORD_HEADER_BYTES
        try:
            header = records.chunk_header(head[9:], length)
        except BrokenRecordError:
            return None
        known = header.compression in records.COMPRESSIONS
        if operation != records.CHUNK or not known or begin + length <= self._file.size:
            return None
        return Record(operation, position, begin, self._file.size, header, cut=True)


def _message_pattern(channels: Collection[int]) -> bytes:
    if not channels or len(channels) > 1000:
        return b""
    ids = b"|".join(re.escape(number.to_bytes(2, "little")) for number in sorted(channels))
    return rb"|\x05.{4}\x00{4}(?:" + ids + rb")"
