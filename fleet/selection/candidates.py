"""The frames of the tables with most evidence, read a part at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fleet.tables.mined import MinedTables
from fleet.tables.schema import FRAMES
from ros_ood_perception.pipeline.fates import PUBLISHED

UNKNOWN, DOUBT, DISAGREEMENT = KINDS = ("unknown", "doubt", "disagreement")
BAD_PICTURES = ("frozen", "black", "blown_out", "blurred", "filled_up")
"""Doubts about a picture that nobody can label, or that is a copy."""
KEPT_AT_A_TIME = 4
"""So many times the wanted frames are held before the least are dropped."""


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen.

    Attributes:
        evidence: above 0.
        recording, topic, number: which frame.
        camera: its name; empty for the only one.
        time_ns, stamp_ns: in the recording, and of the header.
        latitude, longitude: degrees; None: unknown.
    """

    evidence: float
    recording: str
    topic: str
    number: int
    camera: str
    time_ns: int
    stamp_ns: int

    @property
    def sequence(self) -> tuple[str, str]:
        """The camera of the recording that it is from."""
        return self.recording, self.topic


@dataclass
class LeftOut:
    """Frames that are no candidates: without results, with a bad picture, or without evidence."""

    no_results: int = 0
    bad_picture: int = 0
    no_evidence: int = 0


COLUMNS = ("recording", "topic", "number", "camera", "time_ns", "stamp_ns", "fate", "doubts")
CANDIDATE_COLUMNS = [*COLUMNS[:6], "evidence"]
EVIDENCE_COLUMNS = {UNKNOWN: ("obstacles", "road_anomaly_share"), DOUBT: ("known_score_mean",)}


def best_candidates(tables: MinedTables, kind: str, count: int, apart_ns: int, left_out: LeftOut) -> list[Candidate]:
    """The frames with most evidence, the most first: of each camera of a recording at most one in each span of time.

    Only a few times `count` frames are in memory, however many the tables hold.

    Args:
        kind: `UNKNOWN` or `DOUBT`.
        count: of frames.
        apart_ns: length of the span.
        left_out: is filled.

    Raises:
        TablesError: a table cannot be read.
    """
    kept: pa.Table | None = None
    for batch in tables.batches(FRAMES, (*COLUMNS, *EVIDENCE_COLUMNS[kind])):
        found = _with_evidence(batch, kind, left_out)
        kept = found if kept is None else pa.concat_tables([kept, found])
        if len(kept) > KEPT_AT_A_TIME * count:
            kept = best_rows(kept, count, apart_ns)
    if kept is None:
        return []
    return candidates_of(best_rows(kept, count, apart_ns))


def _with_evidence(batch: pa.RecordBatch, kind: str, left_out: LeftOut) -> pa.Table:
    table = pa.Table.from_batches([batch])
    published = table.filter(pc.equal(table["fate"], PUBLISHED))
    left_out.no_results += len(table) - len(published)
    bad = set(BAD_PICTURES)
    good = published.filter(
        pa.array([not bad & {*(doubts or ())} for doubts in published["doubts"].to_pylist()], pa.bool_())
    )
    left_out.bad_picture += len(published) - len(good)
    evidence = unknown_evidence(good) if kind == UNKNOWN else good["known_score_mean"].to_numpy()
    some = good.append_column("evidence", pa.array(evidence, pa.float64()))
    some = some.filter(pc.greater(some["evidence"], 0.0)).select(CANDIDATE_COLUMNS)
    left_out.no_evidence += len(good) - len(some)
    return some


def unknown_evidence(frames: pa.Table) -> NDArray[np.float64]:
    """Evidence of unknown objects, (N,): the share of the picture that is anomalous road; 0 without an obstacle."""
    share = frames["road_anomaly_share"].to_numpy().astype(np.float64)
    return np.where(frames["obstacles"].to_numpy() > 0, share, 0.0)


def best_rows(frames: pa.Table, count: int, apart_ns: int) -> pa.Table:
    """The `count` rows with most evidence, of each camera of a recording at most one in a span; ordered."""
    keys = [("evidence", "descending"), ("recording", "ascending"), ("topic", "ascending"), ("number", "ascending")]
    ordered = frames.take(pc.sort_indices(frames, sort_keys=keys))
    spans = ordered["time_ns"].to_numpy() // max(apart_ns, 1)
    seen: set[tuple[str, str, int]] = set()
    chosen = []
    names = zip(ordered["recording"].to_pylist(), ordered["topic"].to_pylist(), spans.tolist(), strict=True)
    for index, key in enumerate(names):
        if key not in seen:
            seen.add(key)
            chosen.append(index)
            if len(chosen) == count:
                break
    return ordered.take(pa.array(chosen, pa.int64()))


def candidates_of(frames: pa.Table) -> list[Candidate]:
    """Rows with the columns of a candidate, in their order."""
    return [Candidate(**row) for row in frames.select(CANDIDATE_COLUMNS).to_pylist()]
