"""The figures of a replay, frame by frame, from its output bag."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.results import DetectedBox, FrameKey, ResultFrame, obstacle_places, result_frames
from ros_ood_perception.replay.recorded_images import ImageKey


@dataclass(frozen=True)
class FrameFigures:
    """The figures of one frame.

    Attributes:
        key: see `ResultFrame.key`.
        time_ns: in the recording, nanoseconds.
        area: share of the frame's pixels above the threshold, 0 to 1; None without the anomaly mask.
        road: the same of the pixels of drivable classes; None without such pixels.
        peak: largest score, 0 to 1; None without the score.
        evidence: mean over the frame of the score where it is above the threshold, and 0 elsewhere; of the mask
            where there is no score.
        boxes: the obstacles.
        ranges_m: id of an obstacle to its distance on the ground from the vehicle's frame, metres.
    """

    key: FrameKey
    time_ns: int
    area: float | None
    road: float | None
    peak: float | None
    evidence: float
    boxes: tuple[DetectedBox, ...]
    ranges_m: Mapping[str, float] = field(default_factory=dict)

    @property
    def camera(self) -> str:
        """The prefix of the camera's outputs."""
        return self.key[0]

    @property
    def image_key(self) -> ImageKey:
        """See `ros_ood_perception.replay.recorded_images.image_key`."""
        return (self.key[0], self.time_ns, self.key[1])


def frame_figures(bag: Bag, drivable: Collection[int], damage: list[str]) -> list[FrameFigures]:
    """The figures of all frames, in the order of their times.

    Args:
        bag: with results.
        drivable: ids of the classes whose pixels are the road.
        damage: a sentence is added for each message that cannot be read.

    Raises:
        BagError: the bag holds no results.
    """
    ranges = _ranges(bag, damage)
    found = [_figures(frame, drivable, ranges.get(frame.key, {})) for frame in result_frames(bag, damage)]
    return sorted(found, key=lambda frame: (frame.time_ns, frame.key))


def score_of(frame: ResultFrame) -> NDArray[np.float32] | None:
    """The anomaly score (H, W) in [0, 1]; None if the bag does not hold it."""
    score = frame.pictures.get("anomaly_score")
    if score is None:
        return None
    return score.astype(np.float32) / np.float32(255) if score.dtype == np.uint8 else score


def _figures(frame: ResultFrame, drivable: Collection[int], ranges_m: Mapping[str, float]) -> FrameFigures:
    ids, mask, score = frame.pictures.get("semantic_mask"), frame.pictures.get("anomaly_mask"), score_of(frame)
    area = road = None
    evidence = 0.0
    if mask is not None:
        above = mask > 0
        area = float(np.count_nonzero(above) / above.size)
        evidence = area
        if score is not None and score.shape == above.shape:
            evidence = float(score[above].sum(dtype=np.float64) / above.size)
        if ids is not None and ids.shape == above.shape and drivable:
            on_road = np.isin(ids, list(drivable))
            pixels = int(np.count_nonzero(on_road))
            road = float(np.count_nonzero(above & on_road) / pixels) if pixels else None
    peak = None if score is None else float(score.max())
    return FrameFigures(frame.key, frame.time_ns, area, road, peak, evidence, frame.obstacles or (), ranges_m)


def _ranges(bag: Bag, damage: list[str]) -> dict[FrameKey, dict[str, float]]:
    """By frame, id of an obstacle to the distance of its nearest point, metres."""
    return {
        key: {number: float(np.hypot(*places[:, :2].T.astype(np.float64)).min()) for number, places in by_id.items()}
        for key, by_id in obstacle_places(bag, damage)
    }


@dataclass
class ObstacleRow:
    """One obstacle of a camera over the replay.

    Attributes:
        first, last: indices into the frames that `obstacle_rows` was given.
        frames: number of frames in which it was there.
        largest: pixels of its largest box, and the index of that frame.
        nearest_m: its smallest distance, metres; None where it has no place.
    """

    camera: str
    id: str
    first: int
    last: int
    frames: int
    largest: tuple[float, int]
    nearest_m: float | None


def obstacle_rows(frames: Sequence[FrameFigures]) -> list[ObstacleRow]:
    """Every obstacle, in the order in which they were first found."""
    rows: dict[tuple[str, str], ObstacleRow] = {}
    for index, frame in enumerate(frames):
        for box in frame.boxes:
            row = rows.setdefault(
                (frame.camera, box.id), ObstacleRow(frame.camera, box.id, index, index, 0, (0, 0), None)
            )
            row.last, row.frames = index, row.frames + 1
            row.largest = max(row.largest, (box.width * box.height, index))
            range_m = frame.ranges_m.get(box.id)
            if range_m is not None:
                row.nearest_m = range_m if row.nearest_m is None else min(row.nearest_m, range_m)
    return list(rows.values())


def evenly(frames: Sequence[FrameFigures], most: int) -> list[FrameFigures]:
    """At most this many frames of each sequence, evenly spread, the first and the last among them."""
    if len(frames) <= most:
        return list(frames)
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int)).tolist()]


def worst(frames: Sequence[FrameFigures], most: int) -> list[FrameFigures]:
    """The frames with most anomaly evidence, the worst first; frames without any are left out."""
    ordered = sorted(frames, key=lambda frame: (-frame.evidence, frame.time_ns, frame.key))
    return [frame for frame in ordered[:most] if frame.evidence > 0]
