"""Reads an untrusted SQLite3 file: only plain tables. No code in it is run, and endless queries are stopped."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

_STEPS_BETWEEN_CALLS = 100_000
_MAX_CALLS_WITHOUT_ROW = 100
"""SQLite is stopped after ten million steps without a row."""
_MAX_VALUE_BYTES = 1 << 28
READ_ERRORS = (sqlite3.Error, OverflowError, MemoryError)
"""Errors that reading damaged pages may raise."""


class Database:
    """An open database. Nothing is written beside the file, and no journal is applied.

    Args:
        writable: open it as SQLite does by default, with its write-ahead log.

    Raises:
        sqlite3.Error: it cannot be opened.
    """

    def __init__(self, path: Path, writable: bool = False) -> None:
        mode = "mode=rw" if writable else "mode=ro&immutable=1"
        self._calls = 0
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
        try:
            self._connection.text_factory = lambda raw: raw.decode(errors="replace")
            self._connection.set_progress_handler(self._called, _STEPS_BETWEEN_CALLS)
            for setting in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "synchronous=OFF"):
                self._connection.execute(f"PRAGMA {setting}")
            if sys.version_info >= (3, 11):
                self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
                self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        except sqlite3.Error:
            self._connection.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _called(self) -> bool:
        self._calls += 1
        return self._calls > _MAX_CALLS_WITHOUT_ROW

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query.

        Raises:
            One of `READ_ERRORS`.
        """
        self._calls = 0
        for row in self._connection.execute(query, values):
            self._calls = 0
            yield row

    def first(self, query: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        return next(self.rows(query, values), None)

    def columns(self, table: str) -> set[str]:
        """The stored columns of a plain table; empty if the name is not that of a plain table.

        Views and virtual tables are not plain: to know their columns, SQLite would have to run their code.
        """
        rows = self.rows("SELECT type, name, rootpage, sql FROM sqlite_master")
        found = [row for row in rows if str(row[1]).lower() == table and row[0] in ("table", "view")]
        if len(found) != 1:
            return set()
        kind, _, root, sql = found[0]
        plain = isinstance(sql, str) and re.match(r"CREATE\s+TABLE\b", sql, re.IGNORECASE)
        if kind != "table" or not isinstance(root, int) or root < 1 or not plain:
            return set()
        return {
            str(name).lower() for _, name, _, _, _, _, hidden in self.rows(f"PRAGMA table_xinfo({table})") if not hidden
        }

    def is_row_number(self, table: str, column: str) -> bool:
        """Whether the column is the row number of a plain table: `INTEGER PRIMARY KEY`."""
        keys = [row for row in self.rows(f"PRAGMA table_xinfo({table})") if row[5]]
        numbered = [(str(row[1]).lower(), str(row[2]).upper()) for row in keys] == [(column, "INTEGER")]
        # Any other key has an index.
        return numbered and not any(row[3] == "pk" for row in self.rows(f"PRAGMA index_list({table})"))

    def is_index_over(self, index: str, table: str, column: str) -> bool:
        """Whether the index covers this column of all rows, without expressions."""
        listed = [row for row in self.rows(f"PRAGMA index_list({table})") if row[1] == index]
        if len(listed) != 1 or listed[0][4]:
            return False
        columns = [(row[1], row[2]) for row in self.rows(f"PRAGMA index_xinfo({index})")]
        return len(columns) == 2 and columns[0][1] == column and columns[1][0] == -1
