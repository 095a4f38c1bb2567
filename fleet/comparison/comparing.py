"""Compares the tables of two bundles over a fleet, and writes what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet.comparison.changes import CHANGES_FOLDER, rows_table
from fleet.comparison.frames import PixelComparer, frame_rows
from fleet.comparison.groups import GroupSums
from fleet.tables.mined import MinedTables, Recording
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.replay.comparison.classes import MatchedClasses, match_classes
from ros_ood_perception.replay.comparison.limits import Limits
from ros_ood_perception.replay.comparison.opened_run import UNKNOWN_COLOUR, RunClasses

SETTINGS = ("bundle", "model_sha256", "threshold", "operating_point", "engine")
RATES = (
    *("min_class_agreement", "min_class_iou", "min_anomaly_iou", "max_score_difference"),
    *("max_obstacles_lost_share", "max_obstacles_gained_share"),
)
"""Limits that also make sense for a part of the fleet."""


@dataclass(frozen=True)
class FleetLimits:
    """What may differ.

    Attributes:
        fleet: the limits of `replay --compare`, over all frames.
        max_obstacles_lost_share, max_obstacles_gained_share: of the obstacles of the old bundle those that the new one
            lacks, and the opposite.
        everywhere: limits that are no counts also hold for every recording, place and hour.
        least_frames: groups with fewer frames are not checked.
    """

    fleet: Limits = field(default_factory=Limits)
    max_obstacles_lost_share: float | None = None
    max_obstacles_gained_share: float | None = None
    everywhere: bool = False
    least_frames: int = 50

    def broken(self, figures: Mapping[str, Any], is_group: bool = False) -> list[str]:
        """A sentence for each limit that figures do not meet."""
        limits = {name: getattr(self.fleet, name) for name in vars(self.fleet)}
        limits |= {name: getattr(self, name) for name in ("max_obstacles_lost_share", "max_obstacles_gained_share")}
        found = []
        for name, allowed in limits.items():
            if allowed is None or (is_group and name not in RATES):
                continue
            figure, option = figures.get(name[4:]), f"--{name.replace('_', '-')}"
            if figure is None and not is_group:
                if name.startswith("max_obstacles"):
                    # No obstacle in any frame, so none was lost.
                    continue
                found.append(f"{option} {allowed:g} cannot be checked: give --old-bundle and --new-bundle")
            elif figure is not None and not (figure >= allowed if name.startswith("min_") else figure <= allowed):
                found.append(f"{option} is {allowed:g}, but the value is {figure:.6g}")
        return found


@dataclass(frozen=True)
class FleetPair:
    """The tables of two bundles over the same recordings.

    Raises:
        TablesError: a folder holds results of several bundles.
        ComparisonError: the bundles have no class in common.
    """

    old: MinedTables
    new: MinedTables
    classes: MatchedClasses

    @classmethod
    def of(cls, old: MinedTables, new: MinedTables) -> FleetPair:
        """Match the classes of both by name."""
        here, there = (_run_classes(tables.model()) for tables in (new, old))
        return cls(old, new, match_classes(here, there))

    @property
    def recordings(self) -> list[str]:
        """Those that both have results of."""
        return sorted({r.recording for r in self.old.done} & {r.recording for r in self.new.done})

    def missing(self) -> list[tuple[str, int]]:
        """A sentence for each recording that one side lacks, and the number of its frames that the other has."""
        found = []
        for ours, theirs, lacks in ((self.new, self.old, "OLD"), (self.old, self.new, "NEW")):
            for recording in ours.done:
                other = theirs.recordings.get(recording.recording)
                if other is None or not other.is_done:
                    why = "does not name it" if other is None else f"says that it failed: {other.reason}"
                    found.append((f"{recording.recording}: {lacks} {why}", int(recording.facts["frames"])))
        return found

    def settings(self) -> list[dict[str, str]]:
        """Bundle, threshold and engine, where they differ."""
        old, new = self.old.model().facts, self.new.model().facts
        return [
            {"setting": name, "old": str(old[name]), "new": str(new[name])}
            for name in SETTINGS
            if old[name] != new[name]
        ]


def _run_classes(recording: Recording) -> RunClasses:
    names = tuple(recording.facts["classes"])
    return RunClasses(names, (UNKNOWN_COLOUR,) * len(names), str(recording.facts["model_sha256"]))


def compared_rows(
    pair: FleetPair, comparer: PixelComparer | None, every: int, recordings: Iterable[str]
) -> Iterator[pa.Table]:
    """The table of changes, a recording at a time.

    Args:
        comparer: runs both bundles; None: the columns of pixels are null.
        every: of each camera every n-th frame is run.
    """
    for recording in recordings:
        rows: Sequence[dict[str, Any]] = frame_rows(pair.old, pair.new, recording)
        yield rows_table(rows if comparer is None else comparer(rows, every))


def write_changes(
    output: OutputFolder, tables: Iterable[pa.Table], sums: GroupSums, advance: Callable[[], None]
) -> None:
    """Write the tables, and sum them.

    Raises:
        OSError: with the path.
    """
    for table in tables:
        advance()
        sums.add(table)
        if not len(table):
            continue
        digest = sha256(table["recording"][0].as_py().encode()).hexdigest()[:24]
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        output.write(f"{CHANGES_FOLDER}/{digest}.parquet", sink.getvalue().to_pybytes())


def comparison_facts(pair: FleetPair, sums: GroupSums, limits: FleetLimits) -> dict[str, Any]:
    """What `comparison.json` holds: figures of the fleet and of each group, the worst group first."""
    names, common = pair.classes.names, pair.classes.common
    missing = pair.missing()
    lacking = sum(frames for _, frames in missing)
    fleet = sums.everything.figures(names, common)
    fleet["frames_missing"] += lacking
    groups: dict[str, list[dict[str, Any]]] = {}
    for (kind, name), group in sums.groups.items():
        figures = group.figures(names, common)
        is_checked = group.both >= limits.least_frames
        broken = limits.broken(figures, True) if limits.everywhere and is_checked else []
        groups.setdefault(kind, []).append(
            {"name": name, **figures, "is_small": not is_checked, "limits_broken": broken}
        )
    for found in groups.values():
        found.sort(key=badness, reverse=True)
    broken = limits.broken(fleet)
    broken += [
        f"{kind} {entry['name']}: {text}"
        for kind, entries in groups.items()
        for entry in entries
        for text in entry["limits_broken"]
    ]
    return {
        "fleet": fleet,
        "groups": groups,
        "frames_in_no_group": sums.without,
        "settings": pair.settings(),
        **pair.classes.facts(),
        "recordings": len(pair.recordings),
        "recordings_missing": [text for text, _ in missing],
        "limits_broken": broken,
    }


def badness(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Orders groups: broken limits, then enough frames, then lost obstacles a frame, then changed pixels."""
    frames = max(entry["frames"], 1)
    agreement = entry["class_agreement"]
    return (
        float(len(entry["limits_broken"])),
        float(not entry["is_small"]),
        (entry["obstacles_lost"] or 0) / frames,
        0.0 if agreement is None else 1.0 - agreement,
        (entry["obstacles_gained"] or 0) / frames,
    )
