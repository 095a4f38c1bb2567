"""The tables as files: what their columns say, and that others read them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (requirements/fleet.txt)")

import pyarrow.parquet as pq

from fleet.mine.recording.recording_row import failed_row
from fleet.mine.worker import fail
from fleet.storage.place import open_place
from fleet.tables.files import ROWS_AT_A_TIME, TableWriter, file_key, read_table, rows_of, table_bytes, table_file
from fleet.tables.schema import RECORDINGS, TABLES, TIMINGS


def test_every_column_says_what_it_holds_also_in_the_file(tmp_path: Path) -> None:
    for table in TABLES:
        assert set(table.key) <= set(table.schema.names)
        assert all(len(field.metadata[b"description"]) > 5 for field in table.schema), table.name
    with TableWriter(tmp_path, TABLES) as writer:
        writer.add(RECORDINGS.name, failed_row("/drives/a", 3, "damaged"))
    for table in TABLES:
        assert pq.read_schema(tmp_path / f"{table.name}.parquet").equals(table.schema, check_metadata=True)


def test_rows_are_written_as_they_come_and_all_are_there(tmp_path: Path) -> None:
    count = 2 * ROWS_AT_A_TIME + 7
    with TableWriter(tmp_path, (TIMINGS,)) as writer:
        for number in range(count):
            row = {"recording": "a", "topic": "/t", "number": number, "latency_ms": 1.0, "machine": "here"}
            writer.add(TIMINGS.name, row)
            assert sum(map(len, writer._rows.values())) < ROWS_AT_A_TIME
    assert [row["number"] for row in rows_of(tmp_path / "timings.parquet")] == list(range(count))


def test_a_table_has_one_order_whatever_the_files_are_called(tmp_path: Path) -> None:
    out = open_place(str(tmp_path))
    assert read_table(out, "recordings").num_rows == 0
    for name in ("/z/a", "/a/z", "/a/b"):
        fail(out, name, "damaged")
    table = read_table(out, "recordings")
    assert table["recording"].to_pylist() == ["/a/b", "/a/z", "/z/a"]
    assert table_bytes(table) == table_bytes(table.slice(0))
    assert table_bytes(table) != table_bytes(table.slice(1))
    assert len({file_key(name) for name in ("/z/a", "/y/a", "a")}) == 3
    assert table_file(out, "recordings", "/z/a").is_file()


def test_pandas_reads_a_table_by_its_folder(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (requirements/fleet.txt)")
    fail(open_place(str(tmp_path)), "/drives/a", "damaged")
    fail(open_place(str(tmp_path)), "/drives/b", "empty")
    found = pandas.read_parquet(tmp_path / "recordings")
    assert sorted(found["reason"]) == ["damaged", "empty"]
