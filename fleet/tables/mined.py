"""Reads the tables of a fleet, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from fleet.storage.place import open_place
from fleet.tables.files import table_file
from fleet.tables.schema import DONE, FRAMES, OBSTACLES, RECORDINGS, SCHEMA_VERSION, VERSION_KEY, Table
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.shown_text import error_line

BATCH_ROWS = 1 << 16
"""Rows that are in memory at a time."""


class TablesError(PerceptionError, ValueError):
    """A folder that does not hold the tables of a fleet. The message names the file and the remedy."""


@dataclass(frozen=True)
class Recording:
    """A recording in the tables: see the columns of `RECORDINGS`."""

    recording: str
    state: str
    reason: str
    facts: dict[str, Any] = field(repr=False)

    @property
    def is_done(self) -> bool:
        """Whether it has rows in the other tables."""
        return self.state == DONE


class MinedTables:
    """The tables that `fleet.mine` wrote.

    Args:
        given: path or URI of the folder.

    Attributes:
        out: the folder.
        recordings: by path or URI, sorted.

    Raises:
        TablesError: a table is missing, damaged, or of another version.
        PlaceError: the URI cannot be used.
    """

    def __init__(self, given: str | Path) -> None:
        self.out = open_place(str(given))
        self._files = {table.name: self._found(table) for table in (RECORDINGS, FRAMES, OBSTACLES)}
        rows = (row for batch in self.batches(RECORDINGS, RECORDINGS.schema.names) for row in batch.to_pylist())
        found = {str(row["recording"]): Recording(row["recording"], row["state"], row["reason"], row) for row in rows}
        self.recordings = dict(sorted(found.items()))

    @property
    def name(self) -> str:
        """Path or URI, as it is shown."""
        return self.out.name

    @property
    def done(self) -> list[Recording]:
        """The recordings with results."""
        return [recording for recording in self.recordings.values() if recording.is_done]

    def read(self) -> dict[str, Path | None]:
        """What is read, for `check_apart`: name to path on this machine, None for what lies elsewhere."""
        return {"TABLES": self.out.local, **{name: open_place(name).local for name in self.recordings}}

    def model(self) -> Recording:
        """A recording of the bundle that all were mined with.

        Raises:
            TablesError: there are several bundles, or none.
        """
        by_model = {recording.facts["model_sha256"]: recording for recording in self.done}
        if len(by_model) != 1:
            names = ", ".join(sorted(str(of.facts["bundle"]) for of in by_model.values())) or "none"
            raise TablesError(
                f"{self.name}: holds results of {len(by_model)} bundles ({names}); mine with one into a folder"
            )
        return next(iter(by_model.values()))

    def batches(self, table: Table, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Parts of a table, in the order of its files.

        Raises:
            TablesError: a file cannot be read, or the table of frames has not as many rows as that of recordings says.
        """
        files = self._files[table.name]
        if not files:
            return
        count = 0
        try:
            found = ds.dataset(files, schema=table.schema, format="parquet", filesystem=self.out.filesystem)
            for batch in found.to_batches(columns=list(columns), batch_size=BATCH_ROWS):
                count += len(batch)
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(table, error) from error
        if table is FRAMES:
            self._check_count(count, sum(recording.facts["frames"] for recording in self.done), table.name)

    def rows(self, table: Table, columns: Sequence[str], recording: str) -> pa.Table:
        """The rows of one recording with results.

        Raises:
            TablesError: its file cannot be read, or has not as many rows as the table of recordings says.
        """
        file = table_file(self.out, table.name, recording)
        try:
            with self.out.filesystem.open_input_file(file.path) as opened:
                found = pq.read_table(opened, columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(table, error) from error
        expected = self.recordings[recording].facts["frames" if table is FRAMES else "obstacles"]
        self._check_count(len(found), expected, file.name)
        return found

    def _check_count(self, count: int, expected: int, where: str) -> None:
        if count != expected:
            raise TablesError(
                f"{self.name}: {where} has {count} rows, and {RECORDINGS.name} says {expected}; a file is missing, or "
                "mining has not ended. Mine again"
            )

    def _found(self, table: Table) -> list[str]:
        folder = self.out.child(table.name)
        files = [folder.child(name).path for name in folder.entries() if name.endswith(".parquet")]
        if not files:
            if table is RECORDINGS:
                raise TablesError(f"{folder.name}: has no Parquet file; give the --out of fleet.mine")
            return files
        try:
            schema = pq.read_schema(files[0], filesystem=self.out.filesystem)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(table, error) from error
        version = (schema.metadata or {}).get(VERSION_KEY, b"none").decode(errors="replace")
        missing = [name for name in table.schema.names if name not in schema.names]
        if version != str(SCHEMA_VERSION) or missing:
            lacks = f" and lacks {', '.join(missing)}" if missing else ""
            raise TablesError(
                f"{files[0]}: has the version {version[:20]}{lacks}; this version reads {SCHEMA_VERSION}. Mine again"
            )
        return files

    def _damaged(self, table: Table, error: Exception) -> TablesError:
        return TablesError(
            f"{self.name}/{table.name}: cannot be read ({error_line(error)}); mine again, or remove the damaged file"
        )
