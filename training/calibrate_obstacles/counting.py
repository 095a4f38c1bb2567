"""Counts the false obstacles of every setting on a drive in which nothing unknown lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.parameters.settings import FixedSettings
from ros_ood_perception.pipeline.camera_pipeline import FrameResult, PipelineSettings
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.inputs import InputFrame
from training.calibrate_obstacles.candidates import THRESHOLDS
from training.calibrate_obstacles.detectors import CameraTrials
from training.metrics.obstacles.measure import frame_spans

SAMPLED = 4
"""The share of pixels above a threshold is that of every fourth pixel, in both directions."""


@dataclass
class DriveCounts:
    """What was counted on one drive.

    Attributes:
        counts: false obstacles of each setting, in their order; None: more than `limit`.
        limit: a setting with more false obstacles was played no further.
        seconds: that were measured, summed over the cameras.
        frames: that were measured, likewise.
        pixels: number of sampled pixels.
        above: of these, at or above each of `THRESHOLDS`.
        problems: sentences about frames that could not be used.
        notes: sentences about what makes the counts other than expected.
    """

    counts: list[int | None]
    limit: int
    seconds: float = 0.0
    frames: int = 0
    pixels: int = 0
    above: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class FalseObstacleCount:
    """A `ResultObserver` that counts, beside each other, the false obstacles of many settings.

    Every obstacle is false, as nothing unknown lies on the drive. It counts once, by its id, however many frames it
    lasts. As in docs/measuring.md, one without a place on the ground does not count in a frame whose ground is known.

    Args:
        settings: of node and replay.
        fixed: of the drive, with its cameras.
        limit: see `DriveCounts`.
        each_frame: every frame stands for itself, and an obstacle counts in each.
    """

    def __init__(
        self, settings: Sequence[PipelineSettings], fixed: FixedSettings, limit: int, each_frame: bool
    ) -> None:
        self._trials = {
            name: CameraTrials(settings, mask, each_frame)
            for name, mask in zip(fixed.cameras, fixed.ego_masks, strict=True)
        }
        self._ids: list[set[tuple[str, int]]] = [set() for _ in settings]
        self._limit = limit
        self._stamps: dict[str, set[int]] = {name: set() for name in fixed.cameras}
        self._drive = DriveCounts([], limit)

    def __call__(self, camera: CameraTopics, frame: InputFrame, result: FrameResult) -> None:
        """See `ResultObserver`."""
        stamp = stamp_ns(frame.message.header.stamp)
        self._stamps[camera.name].add(stamp)
        self._drive.frames += 1
        self._add_pixels(result)
        over = set()
        for number, obstacles in self._trials[camera.name](result, stamp):
            ids = self._ids[number]
            ids |= {(camera.name, o.id) for o in obstacles if o.ground_points or result.ground is None}
            if len(ids) > self._limit:
                over.add(number)
        if over:
            for trials in self._trials.values():
                trials.drop(over.__contains__)

    def _add_pixels(self, result: FrameResult) -> None:
        sample = np.sort(result.perception.engine_anomaly_score[::SAMPLED, ::SAMPLED], axis=None)
        below = np.searchsorted(sample, np.array(THRESHOLDS, np.float32), side="left")
        self._drive.pixels += sample.size
        self._drive.above = [old + sample.size - int(new) for old, new in zip(self._drive.above, below, strict=True)]

    def finished(self, problems: Sequence[str], notes: Sequence[str]) -> DriveCounts:
        """The counts of the drive, once it has been played."""
        drive = self._drive
        drive.counts = [None if len(ids) > self._limit else len(ids) for ids in self._ids]
        spans = (seconds for stamps in self._stamps.values() for _, seconds in frame_spans(sorted(stamps)))
        drive.seconds = round(sum(spans), 9)
        drive.problems, drive.notes = list(problems), list(notes)
        return drive
