"""The table of changes: one row a frame that at least one of two bundles has, with counts that can be summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fleet.selection.candidates import CANDIDATE_COLUMNS, KEPT_AT_A_TIME, Candidate, LeftOut, best_rows, candidates_of
from fleet.tables.mined import MinedTables
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.replay.comparison.totals import ObstacleCounts, Totals

CHANGES_FOLDER = "changes"
_COUNTS = pa.list_(pa.field("element", pa.int64(), nullable=False))


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {b"description": description.encode()})


PIXEL_COLUMNS = (
    _field("pixels", pa.int64(), "pixels of the frame; null, as all below, unless both bundles ran on it", True),
    _field("agreeing", pa.int64(), "pixels with the same class", True),
    _field("anomalous_both", pa.int64(), "pixels that are anomalous in both", True),
    _field("anomalous_any", pa.int64(), "pixels that are anomalous in at least one", True),
    _field("score_difference", pa.float64(), "sum over the pixels of the absolute difference of the score", True),
    _field("largest_score_difference", pa.float64(), "its largest value", True),
    _field("intersection", _COUNTS, "pixels of each class of the new bundle in both", True),
    _field("union", _COUNTS, "pixels of each class of the new bundle in at least one", True),
    _field("changed", pa.float64(), "share of the pixels that changed: the larger of class and anomaly", True),
)
SCHEMA = pa.schema(
    [
        _field("recording", pa.string(), "path or URI of the recording"),
        _field("topic", pa.string(), "topic of the camera's images"),
        _field("number", pa.int64(), "number of the frame, as in the tables"),
        _field("camera", pa.string(), "name of the camera; empty if there is only one"),
        _field("time_ns", pa.int64(), "time in the recording"),
        _field("stamp_ns", pa.int64(), "stamp of the image's header", True),
        _field("has_old", pa.bool_(), "the old bundle has results for it"),
        _field("has_new", pa.bool_(), "the new bundle has results for it"),
        _field("latitude", pa.float64(), "degrees; null: unknown", True),
        _field("longitude", pa.float64(), "degrees; null: unknown", True),
        _field("x", pa.float64(), "of the vehicle in its fixed frame, metres; null: unknown", True),
        _field("y", pa.float64(), "likewise", True),
        _field("obstacles_old", pa.int64(), "obstacles of the old bundle; 0 unless both have results, as below"),
        _field("obstacles_new", pa.int64(), "obstacles of the new bundle"),
        _field("obstacles_gained", pa.int64(), "those of the new bundle without one of the old"),
        _field("obstacles_lost", pa.int64(), "those of the old bundle without one of the new"),
        _field(
            "anomaly_old", pa.float64(), "share of anomalous pixels, old bundle; null unless both have results", True
        ),
        _field("anomaly_new", pa.float64(), "the same of the new bundle", True),
        *PIXEL_COLUMNS,
    ],
    {b"ros_ood_perception.fleet.changes_version": b"1"},
)


class ChangesError(PerceptionError, ValueError):
    """The changes cannot be made or read. The message says why, and the remedy."""


def pixel_counts(totals: Totals, changed: float | None) -> dict[str, Any]:
    """The columns of one frame's pixels; all null if it was not compared."""
    if changed is None:
        return dict.fromkeys(field.name for field in PIXEL_COLUMNS)
    return {
        "pixels": totals.pixels,
        "agreeing": totals.agreeing,
        "anomalous_both": totals.anomalous_both,
        "anomalous_any": totals.anomalous_any,
        "score_difference": totals.score_difference,
        "largest_score_difference": totals.largest_score_difference,
        "intersection": totals.intersection.tolist(),
        "union": totals.union.tolist(),
        "changed": changed,
    }


@dataclass
class Sums:
    """Counts of the rows of a group.

    Attributes:
        classes: number of classes.
        rows: frames that at least one bundle has.
        both: frames that both have.
        anomaly: sums of the shares of anomalous pixels, old and new, over `both`.
    """

    classes: int
    rows: int = 0
    both: int = 0
    anomaly: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.totals = Totals(self.classes)

    def add(self, rows: pa.Table) -> None:
        """Add rows of the table of changes."""
        old, new = (rows[name].to_numpy().astype(np.bool_) for name in ("has_old", "has_new"))
        totals = self.totals
        self.rows += len(rows)
        self.both += int(np.count_nonzero(old & new))
        totals.only_there += int(np.count_nonzero(old & ~new))
        totals.only_here += int(np.count_nonzero(new & ~old))
        self.anomaly = (self.anomaly[0] + _sum(rows["anomaly_old"]), self.anomaly[1] + _sum(rows["anomaly_new"]))
        counts = totals.obstacles.setdefault("", ObstacleCounts())
        counts.frames += int(np.count_nonzero(old & new))
        counts.here += int(_sum(rows["obstacles_new"]))
        counts.there += int(_sum(rows["obstacles_old"]))
        counts.gained += int(_sum(rows["obstacles_gained"]))
        counts.lost += int(_sum(rows["obstacles_lost"]))
        seen = rows.filter(pc.is_valid(rows["pixels"]))
        if len(seen):
            self._add_pixels(seen)

    def _add_pixels(self, rows: pa.Table) -> None:
        totals = self.totals
        totals.frames += len(rows)
        totals.pixels += int(_sum(rows["pixels"]))
        totals.score_pixels += int(_sum(rows["pixels"]))
        totals.agreeing += int(_sum(rows["agreeing"]))
        totals.anomalous_both += int(_sum(rows["anomalous_both"]))
        totals.anomalous_any += int(_sum(rows["anomalous_any"]))
        totals.score_difference += _sum(rows["score_difference"])
        largest = float(pc.max(rows["largest_score_difference"]).as_py())
        totals.largest_score_difference = max(totals.largest_score_difference, largest)
        totals.intersection += _summed_lists(rows["intersection"], self.classes)
        totals.union += _summed_lists(rows["union"], self.classes)

    def figures(self, names: Sequence[str], common: Sequence[int]) -> dict[str, Any]:
        """The figures of `replay --compare`, and further ones of a fleet.

        Args:
            names: of the classes, by id.
            common: ids of the classes that both bundles have.
        """
        found = self.totals.figures(names, common)
        counts = self.totals.obstacles.get("", ObstacleCounts())
        del found["obstacles_by_camera"]
        return {
            **found,
            "frames": self.both,
            "frames_with_pixels": self.totals.frames,
            "obstacles_old": counts.there,
            "obstacles_new": counts.here,
            "obstacles_lost_share": counts.lost / counts.there if counts.there else None,
            "obstacles_gained_share": counts.gained / counts.here if counts.here else None,
            "anomaly_share_old": self.anomaly[0] / self.both if self.both else None,
            "anomaly_share_new": self.anomaly[1] / self.both if self.both else None,
        }


def _sum(column: pa.ChunkedArray) -> float:
    return float(pc.sum(column).as_py() or 0)


def _summed_lists(column: pa.ChunkedArray, classes: int) -> NDArray[np.int64]:
    flat = pc.list_flatten(column).to_numpy().reshape(len(column), classes)
    summed: NDArray[np.int64] = flat.sum(axis=0)
    return summed


def change_batches(folder: Path) -> Iterator[pa.Table]:
    """The rows of the table in the --out of `fleet.compare`, a recording at a time.

    Raises:
        ChangesError: it is not there, or cannot be read.
    """
    files = sorted((folder / CHANGES_FOLDER).glob("*.parquet"))
    if not files:
        raise ChangesError(f"{folder / CHANGES_FOLDER}: has no Parquet file; give the --out of fleet.compare")
    for path in files:
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ChangesError(f"{path}: cannot be read ({error}); compare again") from error
        if table.schema.names != SCHEMA.names:
            raise ChangesError(f"{path}: has other columns than those of fleet.compare; compare again")
        yield table.cast(SCHEMA)


def changed_candidates(
    folder: Path, tables: MinedTables, count: int, apart_ns: int, left_out: LeftOut
) -> list[Candidate]:
    """The frames that two bundles see most differently: see `best_candidates`.

    The evidence is the share of the pixels that changed.

    Raises:
        ChangesError: the comparison is of other recordings, or was made without the bundles.
    """
    kept: pa.Table | None = None
    for rows in change_batches(folder):
        known = {path for path in pc.unique(rows["recording"]).to_pylist() if path in tables.recordings}
        compared = rows.filter(
            pc.and_(pc.is_valid(rows["changed"]), pc.is_in(rows["recording"], pa.array(known, pa.string())))
        )
        left_out.no_results += len(rows) - len(compared)
        found = compared.rename_columns(["evidence" if name == "changed" else name for name in compared.column_names])
        found = found.filter(pc.greater(found["evidence"], 0.0))
        left_out.no_evidence += len(compared) - len(found)
        found = found.select(CANDIDATE_COLUMNS)
        kept = found if kept is None else pa.concat_tables([kept, found])
        if len(kept) > KEPT_AT_A_TIME * count:
            kept = best_rows(kept, count, apart_ns)
    if kept is None or not len(kept):
        raise ChangesError(
            f"{folder}: has no frame of these tables that both bundles ran on; give fleet.compare --old-bundle and "
            "--new-bundle"
        )
    return candidates_of(best_rows(kept, count, apart_ns))


def rows_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of changes, in the order of their key."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    return table.sort_by([("recording", "ascending"), ("topic", "ascending"), ("number", "ascending")])
