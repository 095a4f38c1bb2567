"""What can still be read of a SQLite3 bag file that is cut or damaged. Only used where `rosbags` gives up."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

GIVE_UP_AFTER = 20_000
"""So many rows, one after the other, that are not there or cannot be read, where the last row's number is unknown."""

MAX_FILE_BYTES = 1 << 40


class DamagedSqlite:
    """Opens the file; `close` it. Messages are fetched one by one, so that a damaged page costs only its own rows.

    Attributes:
        topics: number to (topic, message type).
        damage: what could not be read, a sentence each; complete once `messages` has come to its end.

    Raises:
        sqlite3.DatabaseError: not even the topics can be read.
    """

    def __init__(self, path: Path) -> None:
        self.damage: list[str] = []
        self._missing_bytes = _missing_bytes(path)
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        if self._missing_bytes:
            # SQLite opens no file that is shorter than its header says: a copy has zeros in place of what was cut.
            self._copy = tempfile.TemporaryDirectory(prefix="ros_ood_perception_bag_")
            copied = Path(shutil.copy(path, self._copy.name))
            with copied.open("r+b") as file:
                file.truncate(path.stat().st_size + self._missing_bytes)
            path = copied
        # Immutable: nothing is written beside a bag, and a journal that lies there is not replayed into it.
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        self._connection.text_factory = lambda raw: raw.decode(errors="replace")
        try:
            rows = self._connection.execute("SELECT id, name, type FROM topics").fetchall()
        except sqlite3.DatabaseError:
            self.close()
            raise
        self.topics: dict[int, tuple[str, str]] = {number: (name, kind) for number, name, kind in rows}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def messages(self) -> Iterator[tuple[str, str, int, bytes]]:
        """Topic, message type, time in nanoseconds, serialised message; in the order in which they were recorded."""
        self.damage = []
        if self._missing_bytes:
            self.damage.append(
                f"{self._missing_bytes} bytes are missing at its end; the last message may be incomplete"
            )
        last = self._last_row()
        row, missing, unreadable = 0, 0, 0
        while (row < last) if last is not None else (missing < GIVE_UP_AFTER):
            row += 1
            try:
                found = self._connection.execute(
                    "SELECT topic_id, timestamp, data FROM messages WHERE id = ?", (row,)
                ).fetchone()
            except sqlite3.DatabaseError:
                unreadable += 1
                missing += 1
                continue
            if found is None:
                missing += 1
                continue
            missing = 0
            number, time_ns, data = found
            if number not in self.topics or not isinstance(time_ns, int) or not isinstance(data, bytes):
                unreadable += 1
                continue
            yield *self.topics[number], time_ns, data
        if last is None:
            self.damage.append("its last row cannot be found: how many messages are missing at the end is not known")
            unreadable = max(0, unreadable - missing)
        if unreadable:
            self.damage.append(f"{unreadable} messages cannot be read")

    def _last_row(self) -> int | None:
        try:
            (last,) = self._connection.execute("SELECT max(id) FROM messages").fetchone()
        except sqlite3.DatabaseError:
            return None
        return last or 0


def _missing_bytes(path: Path) -> int:
    """How much shorter the file is than its header says."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return 0
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    wanted = (65536 if page == 1 else page) * pages
    return max(0, min(wanted, MAX_FILE_BYTES) - path.stat().st_size)
