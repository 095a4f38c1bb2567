"""Writes and reads the Parquet files of the tables: one file a table and recording."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet.storage.place import Place
from fleet.tables.schema import TABLES, Table

ROWS_AT_A_TIME = 1000
"""Rows that are in memory before they are written."""
_LONGEST_NAME = 48


def file_key(recording: str) -> str:
    """The name of a recording's files, without ending: the end of its own name, and a digest.

    >>> file_key("/drives/monday 1")
    'monday_1-1cd4a3a77b5d6ea8'
    """
    digest = hashlib.sha256(recording.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9.]+", "_", PurePosixPath(recording).name)[-_LONGEST_NAME:].lstrip(".")
    return f"{name}-{digest}" if name else digest


def table_file(out: Place, table: str, recording: str) -> Place:
    """The file with a recording's rows of a table."""
    return out.child(table, f"{file_key(recording)}.parquet")


class TableWriter:
    """Local Parquet files that grow row by row. A context manager; they are complete when it is left.

    Args:
        folder: where they are written, as TABLE.parquet.
        tables: which there are, with rows or without.
    """

    def __init__(self, folder: Path, tables: Sequence[Table]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.files = {table.name: folder / f"{table.name}.parquet" for table in tables}
        self._schemas = {table.name: table.schema for table in tables}
        self._rows: dict[str, list[Mapping[str, Any]]] = {table.name: [] for table in tables}
        self._writers = {table.name: pq.ParquetWriter(self.files[table.name], table.schema) for table in tables}

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Take the next row of a table."""
        rows = self._rows[table]
        rows.append(row)
        if len(rows) >= ROWS_AT_A_TIME:
            self._flush(table)

    def _flush(self, table: str) -> None:
        rows = self._rows[table]
        if rows:
            self._writers[table].write_table(pa.Table.from_pylist(rows, self._schemas[table]))
            rows.clear()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for table in self._rows:
                self._flush(table)
        for writer in self._writers.values():
            writer.close()


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a local file, some at a time in memory."""
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(ROWS_AT_A_TIME):
            yield from batch.to_pylist()


def read_table(out: Place, name: str) -> pa.Table:
    """A whole table in the order of its key; without rows if it has no file. It must fit into memory.

    Args:
        name: of one of `TABLES`.

    Raises:
        OSError: a file cannot be read.
    """
    table = next(table for table in TABLES if table.name == name)
    files = [file for file in out.child(name).entries() if file.endswith(".parquet")]
    parts = []
    for file in files:
        place = out.child(name, file)
        with place.filesystem.open_input_file(place.path) as opened:
            parts.append(pq.read_table(opened))
    whole = pa.concat_tables(parts) if parts else table.schema.empty_table()
    return whole.sort_by([(column, "ascending") for column in table.key]).combine_chunks()


def table_bytes(table: pa.Table) -> bytes:
    """A table as bytes, equal for equal rows in equal order."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        # Chunks would show how the rows lay in files.
        stream.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
