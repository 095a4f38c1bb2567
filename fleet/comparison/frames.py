"""Compares the results of two bundles for one recording, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.comparison.changes import pixel_counts
from fleet.selection.candidates import Candidate
from fleet.selection.recorded_frames import FrameReader
from fleet.tables.mined import MinedTables
from fleet.tables.schema import FRAMES, OBSTACLES
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.pipeline.fates import PUBLISHED
from ros_ood_perception.recordings.results import DetectedBox, ResultFrame
from ros_ood_perception.replay.comparison.classes import MatchedClasses
from ros_ood_perception.replay.comparison.totals import Totals, matched_boxes
from ros_ood_perception.shown_text import error_line

Key = tuple[str, int]
"""Topic and number of a frame."""
FRAME_COLUMNS = (
    *("topic", "number", "camera", "time_ns", "stamp_ns", "fate", "latitude", "longitude", "x", "y", "anomaly_share"),
)
BOX_COLUMNS = ("topic", "number", "id", "box_x", "box_y", "box_width", "box_height")
PLACES = ("latitude", "longitude", "x", "y")


def frame_rows(old: MinedTables, new: MinedTables, recording: str) -> list[dict[str, Any]]:
    """The rows of a recording without the columns of pixels: which frames both have, and their obstacles."""
    frames = [_published(tables, recording) for tables in (old, new)]
    boxes = [_boxes(tables, recording) for tables in (old, new)]
    rows = []
    for key in sorted({*frames[0], *frames[1]}):
        there, here = (found.get(key) for found in frames)
        known = here or there
        assert known is not None
        row = {name: known[name] for name in ("topic", "number", "camera", "time_ns", "stamp_ns", *PLACES)}
        row |= {"recording": recording, "has_old": there is not None, "has_new": here is not None}
        row |= {f"obstacles_{name}": 0 for name in ("old", "new", "gained", "lost")}
        row |= {"anomaly_old": None, "anomaly_new": None}
        if there is not None and here is not None:
            before, now = (found.get(key, ()) for found in boxes)
            matched = matched_boxes(now, before)
            row |= {"obstacles_old": len(before), "obstacles_new": len(now)}
            row |= {"obstacles_gained": len(now) - matched, "obstacles_lost": len(before) - matched}
            row |= {"anomaly_old": there["anomaly_share"], "anomaly_new": here["anomaly_share"]}
        rows.append(row)
    return rows


def _published(tables: MinedTables, recording: str) -> dict[Key, dict[str, Any]]:
    rows = tables.rows(FRAMES, FRAME_COLUMNS, recording).to_pylist()
    return {(row["topic"], row["number"]): row for row in rows if row["fate"] == PUBLISHED}


def _boxes(tables: MinedTables, recording: str) -> dict[Key, list[DetectedBox]]:
    found: dict[Key, list[DetectedBox]] = {}
    for row in tables.rows(OBSTACLES, BOX_COLUMNS, recording).to_pylist():
        box = DetectedBox(row["box_x"], row["box_y"], row["box_width"], row["box_height"], str(row["id"]))
        found.setdefault((row["topic"], row["number"]), []).append(box)
    return found


@dataclass(frozen=True)
class ModelRun:
    """A bundle, and the threshold that it was mined with."""

    bundle: Bundle
    threshold: float


@dataclass(frozen=True)
class ComparedFrame:
    """A frame: its image (H, W, 3) uint8 RGB, and the results of the new (`here`) and the old bundle (`there`)."""

    candidate: Candidate
    image: NDArray[np.uint8] = field(repr=False)
    here: ResultFrame
    there: ResultFrame


@dataclass
class PixelComparer:
    """Runs two bundles on frames that are read again. A network's result depends on nothing but the frame.

    Args:
        classes: of both, under the ids of the new bundle.
        num_threads: of an engine on the CPU; 0: every CPU that this process may use.

    Attributes:
        problems: a sentence for each frame that could not be read or computed.

    Raises:
        EngineError: an engine cannot be opened.
    """

    old: ModelRun
    new: ModelRun
    classes: MatchedClasses
    engine: str
    num_threads: int
    rate_hz: float
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._engines = []
        self._networks = []
        for run in (self.old, self.new):
            engine = open_engine(run.bundle, self.engine, self.num_threads)
            description = run.bundle.description
            self._engines.append(engine)
            self._networks.append(Perception(engine, run.threshold, len(description.classes), description.input))

    def __call__(self, rows: Sequence[Mapping[str, Any]], every: int) -> list[dict[str, Any]]:
        """The rows of one recording, with the columns of pixels where both bundles have results.

        Args:
            every: of each camera the first and then every n-th such frame is compared.
        """
        both: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["has_old"] and row["has_new"]:
                both.setdefault(row["topic"], []).append(row)
        wanted = [_candidate(row) for of_camera in both.values() for row in of_camera[::every]]
        found: dict[Key, dict[str, Any]] = {}
        for frame in self.results(wanted):
            totals = Totals(len(self.classes.names))
            key = frame.candidate.topic, frame.candidate.number
            found[key] = pixel_counts(totals, totals.add(frame.here, frame.there))
        none = pixel_counts(Totals(0), None)
        return [{**row, **found.get((row["topic"], row["number"]), none)} for row in rows]

    def results(self, wanted: Sequence[Candidate]) -> Iterator[ComparedFrame]:
        """Each frame with what the bundles see in it, under the ids of the new one."""
        reader = FrameReader(self.rate_hz)
        for candidate, image in reader(wanted):
            try:
                there, here = (self._result(number, candidate, image) for number in (0, 1))
            except EngineError as error:
                self.problems.append(f"{candidate.recording}, {candidate.time_ns}: {error_line(error)}")
                continue
            there.pictures["semantic_mask"] = self.classes.table[there.pictures["semantic_mask"]]
            yield ComparedFrame(candidate, image, here, there)
        self.problems += reader.problems

    def _result(self, number: int, candidate: Candidate, rgb: NDArray[np.uint8]) -> ResultFrame:
        run = (self.old, self.new)[number]
        is_rgb = run.bundle.description.input.colour_order == "rgb"
        seen = self._networks[number](rgb if is_rgb else np.ascontiguousarray(rgb[..., ::-1]))
        pictures: dict[str, NDArray[Any]] = {
            "semantic_mask": seen.semantic,
            "anomaly_mask": seen.anomaly_mask.astype(np.uint8),
            "anomaly_score": seen.anomaly_score,
        }
        return ResultFrame(candidate.camera, candidate.stamp_ns, 0, candidate.time_ns, pictures)

    def close(self) -> None:
        """Free the engines."""
        for engine in self._engines:
            engine.close()


def _candidate(row: Mapping[str, Any]) -> Candidate:
    names = ("recording", "topic", "number", "camera", "time_ns", "stamp_ns")
    return Candidate(0.0, **{name: row[name] for name in names})
