"""Reads one SQLite3 file of a rosbag2 bag, complete or damaged. The file and those beside it are not changed."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import PlainFile, check_plain
from ros_ood_perception.recordings.chunked_file import OTHER_ENCODINGS, Message, StoredTopic
from ros_ood_perception.recordings.sqlite.database import READ_ERRORS, Database
from ros_ood_perception.recordings.sqlite.rows import LAST_ROW, MessageRows

MAX_FILE_BYTES = 1 << 40
_NEEDED = {
    "topics": {"id", "name", "type", "serialization_format"},
    "messages": {"id", "topic_id", "timestamp", "data"},
}


class SqliteFileError(PerceptionError, ValueError):
    """A file whose topics cannot be read, or whose tables are not those of a bag. The message says why."""


class SqliteFile:
    """A SQLite3 file. It is open only while it is scanned, and while messages are read.

    A file that was cut, and one with a write-ahead log beside it (its recorder was killed), are copied into the folder
    for temporary files first.

    Attributes:
        left_out, counts, damage, doubts: as in `ChunkedFile`.
        metadata_text: as in `McapFile`.

    Raises:
        SqliteFileError, OSError: nothing can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.doubts: list[str] = []
        self.left_out: dict[str, str] = {}
        self.metadata_text = ""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._channels: dict[int, StoredTopic] = {}
        self._unread: set[int] = set()
        check_plain(path)
        self._opened = self._prepared()
        try:
            with Database(self._opened) as database:
                _check_tables(database)
                self._read_topics(database)
                self._read_metadata(database)
                self._rows = MessageRows(database, self.damage)
        except READ_ERRORS as error:
            raise SqliteFileError(str(error)) from error
        self.counts = self._counted()
        if self._opened == path.resolve() and _has_log(path):
            # A recorder that ends well applies its log, and removes it.
            self.doubts.append(
                f"it was recorded with a write-ahead log; if its recorder was killed, put {path.name}-wal beside it"
            )

    # -- opening -------------------------------------------------------------------------------------------------

    def _prepared(self) -> Path:
        """The file itself, or a copy where it cannot be read directly."""
        # SQLite keeps them beside the file itself, not beside a link to it.
        path = self.path.resolve()
        log, journal = (path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-journal"))
        if _size(journal):
            # A journal can name any file of this machine, which SQLite deletes when it applies the journal.
            self.damage.append(
                f"{journal.name} beside it was not applied: its recorder was killed; apply it to a copy of both files "
                "with sqlite3"
            )
        missing = _missing_bytes(path)
        if not missing and not _size(log):
            return path
        self._copy = tempfile.TemporaryDirectory(prefix="ros_ood_perception_bag_")
        copy = Path(self._copy.name) / "copy.db3"
        needed = path.stat().st_size + _size(log)
        if shutil.disk_usage(copy.parent).free < needed:
            raise SqliteFileError(f"a copy needs {needed} bytes in {copy.parent.parent}; set TMPDIR to another disk")
        shutil.copyfile(path, copy)
        if missing:
            # SQLite opens no file that is shorter than its header says: the missing part is filled with zeros.
            with copy.open("r+b") as file:
                file.truncate(path.stat().st_size + missing)
            self.damage.append(f"{missing} bytes are missing at its end; the last message may be incomplete")
        if _size(log):
            copied_log = Path(shutil.copyfile(log, f"{copy}-wal"))
            self._apply(copied_log, copy)
        return copy

    def _apply(self, log: Path, copy: Path) -> None:
        """Apply a write-ahead log to the copy. SQLite skips the damaged part of the log."""
        written = _log_frames(log)
        try:
            with Database(copy, writable=True) as database:
                # Reading opens the log; closing applies it to the file.
                database.first("SELECT count(*) FROM sqlite_master")
                _, applied, _ = database.first("PRAGMA wal_checkpoint(PASSIVE)") or (0, 0, 0)
        except READ_ERRORS as error:
            self.damage.append(f"its write-ahead log cannot be read ({error})")
            return
        if written is None:
            self.damage.append("its write-ahead log is damaged from the beginning")
        elif applied < written:
            self.damage.append(
                f"{written - max(applied, 0)} of the {written} pages in its write-ahead log were not finished, or are "
                "damaged"
            )

    def _read_topics(self, database: Database) -> None:
        definitions = self._definitions(database)
        for number, name, kind, encoding in database.rows(
            "SELECT id, name, type, serialization_format FROM topics NOT INDEXED"
        ):
            if not isinstance(name, str) or not isinstance(kind, str):
                self.damage.append(f"topic {number} has no name or no type")
            elif encoding in OTHER_ENCODINGS:
                self._unread.add(number)
                self.left_out[name] = OTHER_ENCODINGS[encoding]
            elif encoding != "cdr":
                self._unread.add(number)
                self.damage.append(f"{name}: its messages are in {str(encoding)[:20]!r}, which is not read")
            else:
                language, texts = definitions.get(kind, ("", ()))
                self._channels[number] = StoredTopic(name, kind, language, texts)

    def _definitions(self, database: Database) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Type to language and definitions; bags of Humble and earlier lack them."""
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        names = ("topic_type", "encoding", "encoded_message_definition")
        try:
            if not set(names) <= database.columns("message_definitions"):
                return {}
            for row in database.rows(f"SELECT {', '.join(names)} FROM message_definitions NOT INDEXED"):
                if all(isinstance(value, str) for value in row):
                    kind, language, text = row
                    found[kind] = (language, (*found.get(kind, ("", ()))[1], text))
        except READ_ERRORS as error:
            self.damage.append(f"its definitions of messages cannot be read ({error})")
        return found

    def _read_metadata(self, database: Database) -> None:
        try:
            if {"id", "metadata"} <= database.columns("metadata"):
                for (text,) in database.rows("SELECT metadata FROM metadata NOT INDEXED ORDER BY id"):
                    self.metadata_text = text if isinstance(text, str) else self.metadata_text
        except READ_ERRORS as error:
            self.damage.append(f"its copy of the metadata cannot be read ({error})")

    def _counted(self) -> dict[str, int]:
        found = {topic.name: 0 for topic in self._channels.values()}
        unknown = 0
        for number, count in Counter(self._rows.topics.tolist()).items():
            if number in self._channels:
                found[self._channels[number].name] += count
            elif number not in self._unread:
                unknown += count
        if unknown:
            self.damage.append(f"{unknown} messages are of topics that it does not name")
        return found

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def topics(self) -> list[StoredTopic]:
        """The readable topics."""
        return list(self._channels.values())

    @property
    def start_ns(self) -> int:
        """A lower bound of the messages' times, nanoseconds."""
        return int(self._rows.times.min()) if len(self._rows.times) else 0

    def messages(
        self, topics: Mapping[str, str], start_ns: int | None, stop_ns: int | None, damage: list[str]
    ) -> Iterator[Message]:
        """As `ChunkedFile.messages`."""
        channels = {
            number: topic.name for number, topic in self._channels.items() if topics.get(topic.name) == topic.type_name
        }
        rows = self._rows
        wanted = np.isin(rows.topics, list(channels))
        if start_ns is not None:
            wanted &= rows.times >= min(start_ns, LAST_ROW)
        if stop_ns is not None:
            wanted &= rows.times < min(stop_ns, LAST_ROW)
        places = np.flatnonzero(wanted)
        unreadable = 0
        with Database(self._opened) as database:
            for place in places[np.argsort(rows.times[places], kind="stable")].tolist():
                topic, time_ns = int(rows.topics[place]), int(rows.times[place])
                try:
                    found = database.first(
                        "SELECT topic_id, timestamp, data FROM messages NOT INDEXED WHERE id = ?",
                        (int(rows.ids[place]),),
                    )
                except READ_ERRORS:
                    found = None
                if found is None or found[:2] != (topic, time_ns) or not isinstance(found[2], bytes):
                    unreadable += 1
                    continue
                yield time_ns, channels[topic], found[2]
        if unreadable:
            damage.append(f"{unreadable} messages cannot be read")


def _check_tables(database: Database) -> None:
    for name, needed in _NEEDED.items():
        columns = database.columns(name)
        if not needed <= columns:
            raise SqliteFileError(f"it has no plain table '{name}' with the columns {', '.join(sorted(needed))}")
        if not database.is_row_number(name, "id"):
            raise SqliteFileError(f"the id of its table '{name}' is no integer primary key")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _missing_bytes(path: Path) -> int:
    """Number of bytes by which the file is shorter than its header says."""
    with PlainFile(path) as file:
        header, size = file.read(0, 100), file.size
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return 0
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    wanted = (65536 if page == 1 else page) * pages
    return max(0, min(wanted, MAX_FILE_BYTES) - size)


def _has_log(path: Path) -> bool:
    """Whether the header says that the last writer kept a write-ahead log."""
    with PlainFile(path) as file:
        return file.read(18, 2) == b"\2\2"


def _log_frames(log: Path) -> int | None:
    """Number of pages in a write-ahead log; None if it is unknown (https://sqlite.org/fileformat2.html#walformat)."""
    with PlainFile(log) as file:
        header = file.read(0, 32)
        page = int.from_bytes(header[8:12], "big")
        if len(header) < 32 or not 512 <= page <= 65536 or not _is_whole_header(header):
            return None
        frame = 24 + page
        # After the last page there can be pages from before the log was restarted; they have other salts.
        last = 0
        for number in range((file.size - 32) // frame):
            if file.read(32 + number * frame, 16)[8:] == header[16:24]:
                last = number + 1
        return last + bool((file.size - 32) % frame)


def _is_whole_header(header: bytes) -> bool:
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(int.from_bytes(header[:4], "big"))
    if order is None:
        return False
    first = second = 0
    words = struct.unpack(f"{order}6I", header[:24])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) % (1 << 32)
        second = (second + odd + first) % (1 << 32)
    return (first, second) == struct.unpack(">2I", header[24:32])
