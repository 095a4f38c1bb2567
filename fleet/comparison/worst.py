"""The frames that two bundles see most differently, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fleet.comparison.changes import change_batches
from fleet.comparison.frames import ComparedFrame, PixelComparer
from fleet.selection.candidates import CANDIDATE_COLUMNS, Candidate, best_rows, candidates_of
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.replay.comparison.pictures import write_picture
from ros_ood_perception.replay.comparison.worst_pairs import PART_WIDTH, ChangedPair, narrowed_result
from ros_ood_perception.replay.recorded_images import image_key
from ros_ood_perception.replay.report.pictures import narrowed

WORST_FRAMES = 6
APART_NS = 30_000_000_000
"""Of each half minute of a camera at most one frame is shown."""


def write_worst(output: OutputFolder, comparer: PixelComparer) -> list[dict[str, Any]]:
    """Write pictures of the frames that changed most, below `worst/`; returns what there is to say about them.

    Raises:
        OSError: with the path.
    """
    ranks = {candidate: rank for rank, candidate in enumerate(_most_changed(output.path), 1)}
    found = [_written(output, comparer, frame, ranks[frame.candidate]) for frame in comparer.results(list(ranks))]
    return sorted(found, key=lambda facts: facts["rank"])


def _most_changed(folder: Path) -> list[Candidate]:
    kept: pa.Table | None = None
    for rows in change_batches(folder):
        changed = rows.filter(pc.greater(pc.fill_null(rows["changed"], 0.0), 0.0))
        changed = changed.append_column("evidence", changed["changed"]).select(CANDIDATE_COLUMNS)
        kept = best_rows(changed if kept is None else pa.concat_tables([kept, changed]), WORST_FRAMES, APART_NS)
    return [] if kept is None else candidates_of(kept)


def _written(output: OutputFolder, comparer: PixelComparer, frame: ComparedFrame, rank: int) -> dict[str, Any]:
    candidate = frame.candidate
    here, there = narrowed_result(frame.here), narrowed_result(frame.there)
    pair = ChangedPair(candidate.evidence, image_key(frame.here), here, there)
    picture = write_picture(output, rank, narrowed(frame.image, PART_WIDTH), pair, comparer.classes)
    return {
        "rank": rank,
        "recording": candidate.recording,
        "topic": candidate.topic,
        "time_ns": candidate.time_ns,
        "stamp_ns": candidate.stamp_ns,
        "changed": candidate.evidence,
        "picture": picture,
    }
