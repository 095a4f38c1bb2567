"""Joins the rows of a recording's parts to those of the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.mine.recording.frame_rows import RowWriter
from fleet.mine.recording.parts import Ids, SpanResult, is_same_memory, joined_summary
from fleet.tables.files import rows_of
from fleet.tables.schema import OBSTACLES

PartFiles = Mapping[str, Path]
"""Name of a table to the local file with a part's rows."""


@dataclass(frozen=True)
class Joined:
    """The joined parts.

    Attributes:
        results: of the parts, as they were joined.
        again: number of parts that were replayed again.
    """

    results: list[SpanResult]
    again: int

    def whole(self) -> SpanResult:
        """As the result of a replay of the whole, less the states of its cameras."""
        first = [result.first_ns for result in self.results if result.first_ns is not None]
        last = [result.last_ns for result in self.results if result.last_ns is not None]
        return SpanResult(
            summary=joined_summary([result.summary for result in self.results]),
            before=[],
            after=[],
            calibrations=self.results[0].calibrations,
            first_ns=first[0] if first else None,
            last_ns=last[-1] if last else None,
            obstacles=sum(result.obstacles for result in self.results),
        )


def join_rows(
    results: Sequence[SpanResult],
    files_of: Callable[[int], PartFiles],
    replay_again: Callable[[int, list[dict[str, Any]]], tuple[SpanResult, PartFiles]],
    seen_frames: int,
    writer: RowWriter,
) -> Joined:
    """Write the rows of the whole recording.

    Args:
        results: of the parts, in order.
        files_of: gives the files of a part. They are read before the next ones are asked for.
        replay_again: replays a part from the states of the cameras before it.
        seen_frames: see `is_same_memory`.
        writer: takes the rows.
    """
    joined, again = [], 0
    topics = [camera["image"] for camera in results[0].summary["cameras"]]
    offsets = dict.fromkeys(topics, 0)
    after: list[dict[str, Any]] = []
    for number, result in enumerate(results):
        ids: dict[str, Ids] = {}
        if number and not is_same_memory(after, result.before, seen_frames):
            result, files = replay_again(number, after)
            again += 1
        else:
            files = files_of(number)
            if number:
                ids = dict(zip(topics, map(Ids, after, result.before), strict=True))
        after = [ids[topic].renamed(state) if ids else state for topic, state in zip(topics, result.after, strict=True)]
        _add_rows(writer, files, offsets, ids)
        for camera in result.summary["cameras"]:
            offsets[camera["image"]] += camera["accounting"]["frames"]
        joined.append(result)
    return Joined(joined, again)


def _add_rows(writer: RowWriter, files: PartFiles, offsets: Mapping[str, int], ids: Mapping[str, Ids]) -> None:
    """Add the rows of a part, numbered as in the whole recording."""
    for table, file in files.items():
        for row in rows_of(file):
            row["number"] += offsets[row["topic"]]
            if table == OBSTACLES.name and row["topic"] in ids:
                row["id"] = ids[row["topic"]](row["id"])
            writer.add(table, row)
