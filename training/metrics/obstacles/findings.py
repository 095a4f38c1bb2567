"""What was found on a drive: the judged frames of its cameras added up."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.metrics.obstacles.judging import FALSE, UNPLACED, JudgedFrame, JudgedObject

SECONDS_PER_NANOSECOND = 1e-9

RANGE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 40.0)
PIXEL_EDGES = (60, 250, 1000, 4000)
HEIGHT_EDGES_M = (0.0, 0.3, 0.6, 1.0)
"""Lower edges of the groups by which objects are counted."""


@dataclass(frozen=True)
class Sighting:
    """An object in view in one frame.

    Attributes:
        stamp_ns: of the frame, nanoseconds.
        pixels: number of pixels that show it; None: not known.
        judged: see `JudgedObject`.
    """

    stamp_ns: int
    pixels: int | None
    judged: JudgedObject

    @property
    def range_m(self) -> float | None:
        """Its true range, metres; None: not known."""
        return self.judged.truth.range_m


@dataclass
class ObjectRecord:
    """One object over the drive, as one camera sees it.

    Attributes:
        sightings: the frames in which it is in view, in their order; at least one.
    """

    camera: str
    id: str
    kind: str
    height_m: float | None
    sightings: list[Sighting] = field(default_factory=list)

    @property
    def found_in(self) -> list[Sighting]:
        """The sightings in which it is found."""
        return [sighting for sighting in self.sightings if sighting.judged.found]

    @property
    def marked_in(self) -> list[Sighting]:
        """The sightings in which its pixels are known and marked."""
        return [sighting for sighting in self.sightings if sighting.judged.is_marked]

    @property
    def score(self) -> float | None:
        """The highest threshold on an obstacle's score at which it is still found; None if it is never found."""
        return max((s.judged.score for s in self.found_in if s.judged.score is not None), default=None)

    @property
    def ids(self) -> set[str]:
        """The ids of the obstacles by which it is found: one, if it is followed from its first frame to its last."""
        return {obstacle for sighting in self.found_in for obstacle in sighting.judged.found_by}

    @property
    def errors_m(self) -> list[float]:
        """The placement errors of all obstacles that covered it, metres."""
        return [error for sighting in self.found_in for error in sighting.judged.errors_m]

    def as_row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found, marked, first, last = self.found_in, self.marked_in, self.sightings[0], self.sightings[-1]
        pixels = [s.pixels for s in self.sightings if s.pixels is not None]
        row: dict[str, Any] = {
            **({"camera": self.camera} if self.camera else {}),
            "id": self.id,
            "kind": self.kind,
            "height_m": self.height_m,
            "largest_pixels": max(pixels, default=None),
            "frames_in_view": len(self.sightings),
            "frames_marked": len(marked),
            "largest_marked": max(
                (s.judged.marked for s in self.sightings if s.judged.marked is not None), default=None
            ),
            "frames_touched": sum(bool(s.judged.touched) for s in self.sightings),
            "frames_found": len(found),
            "ids": len(self.ids),
            "share_found": len(found) / len(self.sightings),
            "first_in_view_m": first.range_m,
            "first_marked_m": marked[0].range_m if marked else None,
            "first_found_m": None,
            "seconds_until_found": None,
            "seconds_found_before_leaving_view": None,
            "score": self.score,
            "placement_error_m": statistics.median(self.errors_m) if self.errors_m else None,
        }
        if found:
            row["first_found_m"] = found[0].range_m
            row["seconds_until_found"] = (found[0].stamp_ns - first.stamp_ns) * SECONDS_PER_NANOSECOND
            row["seconds_found_before_leaving_view"] = (last.stamp_ns - found[0].stamp_ns) * SECONDS_PER_NANOSECOND
        return row


@dataclass(frozen=True)
class FalseSighting:
    """A false obstacle in one frame."""

    stamp_ns: int
    score: float


@dataclass
class Findings:
    """The judgements of a drive.

    Attributes:
        objects: camera and id to each object that was in view, in the order in which they came into view.
        false: camera and id of each obstacle that is false in at least one frame, to these frames.
        frames: number of frames that were judged.
        frames_with_false: number of these with a false obstacle.
        unplaced: camera and id of the obstacles that were not in the point cloud in at least one frame.
    """

    objects: dict[tuple[str, str], ObjectRecord] = field(default_factory=dict)
    false: dict[tuple[str, str], list[FalseSighting]] = field(default_factory=dict)
    frames: int = 0
    frames_with_false: int = 0
    unplaced: set[tuple[str, str]] = field(default_factory=set)

    def add(self, camera: str, stamp_ns: int, frame: JudgedFrame) -> None:
        """Add a frame. The frames of a camera come in their order."""
        self.frames += 1
        for judged in frame.objects:
            known = judged.truth
            record = self.objects.setdefault(
                (camera, known.id), ObjectRecord(camera, known.id, known.kind, known.height_m)
            )
            pixels = None if known.pixels is None else known.pixels.count
            record.sightings.append(Sighting(stamp_ns, pixels, judged))
        false = [obstacle for obstacle in frame.obstacles if obstacle.verdict == FALSE]
        self.frames_with_false += bool(false)
        for obstacle in false:
            self.false.setdefault((camera, obstacle.id), []).append(FalseSighting(stamp_ns, obstacle.score))
        self.unplaced |= {(camera, obstacle.id) for obstacle in frame.obstacles if obstacle.verdict == UNPLACED}

    def summary(self, seconds: float, kilometres: float | None = None) -> dict[str, Any]:
        """Plain values for JSON; see `figures`.

        Args:
            seconds: time that was measured.
            kilometres: that the vehicle drove in it; None: not known.
        """
        return figures([self], seconds, kilometres)


def figures(drives: Sequence[Findings], seconds: float, kilometres: float | None = None) -> dict[str, Any]:
    """The figures over drives, as plain values for JSON.

    Args:
        seconds: time that was measured on all drives, summed over the cameras.
        kilometres: that the vehicle drove in it; None: not known.
    """
    objects = [record for drive in drives for record in drive.objects.values()]
    found = [record for record in objects if record.found_in]
    sightings = [sighting for record in objects for sighting in record.sightings]
    false = sum(len(drive.false) for drive in drives)
    frames = sum(drive.frames for drive in drives)
    rows = [record.as_row() for record in objects]
    errors = [error for record in objects for error in record.errors_m]
    return {
        "objects": len(objects),
        "found": len(found),
        "missed": [f"{record.kind} {record.id}" for record in objects if not record.found_in],
        "found_by_one_id": sum(len(record.ids) == 1 for record in found),
        "marked": _marked(objects),
        "frames_in_view": len(sightings),
        "share_of_frames_marked": share_marked(sightings),
        "share_of_frames_found": _share(sum(s.judged.found for s in sightings), len(sightings)),
        "mean_share_found": statistics.fmean(row["share_found"] for row in rows) if rows else None,
        "first_marked_m": _median(row["first_marked_m"] for row in rows),
        "first_found_m": _median(row["first_found_m"] for row in rows),
        "seconds_until_found": _median(row["seconds_until_found"] for row in rows),
        "seconds_found_before_leaving_view": _median(row["seconds_found_before_leaving_view"] for row in rows),
        "placement_error_m": {
            "median": statistics.median(errors) if errors else None,
            "p95": float(np.percentile(errors, 95)) if errors else None,
        },
        "frames": frames,
        "seconds": seconds,
        "kilometres": kilometres,
        "false_obstacles": false,
        "false_obstacles_per_minute": 60 * false / seconds if seconds else None,
        "false_obstacles_per_hour": 3600 * false / seconds if seconds else None,
        "false_obstacles_per_kilometre": false / kilometres if kilometres else None,
        "share_of_frames_with_a_false_obstacle": _share(sum(drive.frames_with_false for drive in drives), frames),
        "obstacles_without_a_place": sum(len(drive.unplaced) for drive in drives),
        "by_kind": _by_kind(objects),
        "by_height_m": _by_height(objects),
        "by_range_m": _by_sighting(objects, RANGE_EDGES_M, lambda sighting: sighting.range_m),
        "by_pixels": _by_sighting(objects, PIXEL_EDGES, lambda sighting: sighting.pixels),
        "each": rows,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def share_marked(sightings: Sequence[Sighting]) -> float | None:
    """The share in which the object is marked; None if its pixels are known in none of them."""
    known = [sighting for sighting in sightings if sighting.judged.marked is not None]
    return _share(sum(sighting.judged.is_marked for sighting in known), len(known))


def _marked(objects: Sequence[ObjectRecord]) -> int | None:
    """How many are marked in one of their frames; None if there are objects, and the pixels of none are known."""
    known = [record for record in objects if any(s.judged.marked is not None for s in record.sightings)]
    return sum(bool(record.marked_in) for record in known) if known or not objects else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _group(objects: Sequence[ObjectRecord]) -> dict[str, Any]:
    found = [record for record in objects if record.found_in]
    sightings = [sighting for record in objects for sighting in record.sightings]
    return {
        "objects": len(objects),
        "found": len(found),
        "frames_in_view": len(sightings),
        "share_of_frames_marked": share_marked(sightings),
        "share_of_frames_found": _share(sum(s.judged.found for s in sightings), len(sightings)),
    }


def _by_kind(objects: Sequence[ObjectRecord]) -> dict[str, Any]:
    kinds = dict.fromkeys(record.kind for record in objects)
    return {kind: _group([record for record in objects if record.kind == kind]) for kind in sorted(kinds)}


def _by_height(objects: Sequence[ObjectRecord]) -> dict[str, Any]:
    """Each object is in the group of its height; objects of unknown height are in none."""
    groups: dict[str, list[ObjectRecord]] = {name: [] for name in _names(HEIGHT_EDGES_M)}
    for record in objects:
        if record.height_m is not None and record.height_m >= HEIGHT_EDGES_M[0]:
            groups[_name_of(record.height_m, HEIGHT_EDGES_M)].append(record)
    return {name: _group(records) for name, records in groups.items() if records}


def _by_sighting(objects: Sequence[ObjectRecord], edges: Sequence[float], value_of: Any) -> dict[str, Any]:
    """An object is in the group of each of its frames in view; in a group it is found if it is in one of its frames."""
    groups: dict[str, list[ObjectRecord]] = {name: [] for name in _names(edges)}
    for record in objects:
        parts: dict[str, list[Sighting]] = {}
        for sighting in record.sightings:
            value = value_of(sighting)
            if value is not None and value >= edges[0]:
                parts.setdefault(_name_of(value, edges), []).append(sighting)
        for name, sightings in parts.items():
            groups[name].append(ObjectRecord(record.camera, record.id, record.kind, record.height_m, sightings))
    return {name: _group(records) for name, records in groups.items() if records}


def _names(edges: Sequence[float]) -> list[str]:
    uppers = [f"{edge:g}" for edge in edges[1:]]
    return [f"{low:g} to {high}" for low, high in zip(edges[:-1], uppers, strict=True)] + [f"from {edges[-1]:g}"]


def _name_of(value: float, edges: Sequence[float]) -> str:
    return _names(edges)[int(np.searchsorted(edges, value, side="right")) - 1]
