"""Reads the tables of a fleet, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from fleet.tables.schema import DONE, FRAMES, OBSTACLES, RECORDINGS, SCHEMA_VERSION, VERSION_KEY, Table
from ros_ood_perception.errors import PerceptionError

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


@dataclass(frozen=True)
class MinedTables:
    """The tables that `fleet.mine` wrote into a folder.

    Raises:
        TablesError: a table is missing, damaged, or of another version.
    """

    folder: Path

    def __post_init__(self) -> None:
        for table in (RECORDINGS, FRAMES, OBSTACLES):
            self._check(table)

    @cached_property
    def recordings(self) -> dict[str, Recording]:
        """By path or URI, sorted."""
        rows = (row for batch in self.batches(RECORDINGS, RECORDINGS.schema.names) for row in batch.to_pylist())
        found = {str(row["recording"]): Recording(row["recording"], row["state"], row["reason"], row) for row in rows}
        return dict(sorted(found.items()))

    @property
    def done(self) -> list[Recording]:
        """The recordings with results."""
        return [recording for recording in self.recordings.values() if recording.is_done]

    def model(self) -> Recording:
        """A recording of the bundle that all were mined with.

        Raises:
            TablesError: there are several bundles, or none.
        """
        by_model = {recording.facts["model_sha256"]: recording for recording in self.done}
        if len(by_model) != 1:
            names = ", ".join(sorted(str(of.facts["bundle"]) for of in by_model.values())) or "none"
            raise TablesError(
                f"{self.folder}: holds results of {len(by_model)} bundles ({names}); mine with one into a folder"
            )
        return next(iter(by_model.values()))

    def batches(
        self, table: Table, columns: Sequence[str], condition: ds.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Parts of a table, in the order of its files.

        Args:
            condition: of the rows that are read; None: all.

        Raises:
            TablesError: a file cannot be read.
        """
        try:
            yield from self._dataset(table).to_batches(columns=list(columns), filter=condition, batch_size=BATCH_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(table, error) from error

    def rows(self, table: Table, columns: Sequence[str], recording: str) -> pa.Table:
        """The rows of one recording.

        Raises:
            TablesError: a file cannot be read.
        """
        batches = list(self.batches(table, columns, ds.field("recording") == recording))
        schema = pa.schema([table.schema.field(name) for name in columns])
        return pa.Table.from_batches([batch.cast(schema) for batch in batches], schema)

    def _dataset(self, table: Table) -> ds.Dataset:
        return ds.dataset(sorted(map(str, self._files(table))), schema=table.schema, format="parquet")

    def _files(self, table: Table) -> list[Path]:
        return sorted((self.folder / table.name).glob("**/*.parquet"))

    def _check(self, table: Table) -> None:
        files = self._files(table)
        if not files:
            raise TablesError(f"{self.folder / table.name}: has no Parquet file; give the --out of fleet.mine")
        try:
            schema = pq.read_schema(files[0])
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(table, error) from error
        version = (schema.metadata or {}).get(VERSION_KEY, b"none").decode(errors="replace")
        missing = [name for name in table.schema.names if name not in schema.names]
        if version != str(SCHEMA_VERSION) or missing:
            lacks = f" and lacks {', '.join(missing)}" if missing else ""
            raise TablesError(
                f"{files[0]}: has the version {version[:20]}{lacks}; this version reads {SCHEMA_VERSION}. Mine again"
            )

    def _damaged(self, table: Table, error: Exception) -> TablesError:
        return TablesError(
            f"{self.folder / table.name}: cannot be read ({error}); mine again, or remove the damaged file"
        )
