"""Differences between the results of two runs, summed over frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.recordings.results import DetectedBox, ResultFrame

SAME_OBSTACLE_IOU = 0.3
"""From this IoU on, two boxes are one obstacle."""


@dataclass
class ObstacleCounts:
    """Obstacles of one camera, summed over the frames in which both runs have them: those here and there, those of this
    run without one in the other (gained), and the opposite (lost)."""

    frames: int = 0
    here: int = 0
    there: int = 0
    gained: int = 0
    lost: int = 0


@dataclass
class Totals:
    classes: int
    frames: int = 0
    pixels: int = 0
    agreeing: int = 0
    anomalous_both: int = 0
    anomalous_any: int = 0
    score_pixels: int = 0
    score_difference: float = 0.0
    largest_score_difference: float = 0.0
    obstacles: dict[str, ObstacleCounts] = field(default_factory=dict)
    only_here: int = 0
    only_there: int = 0
    damage: list[str] = field(default_factory=list)
    intersection: NDArray[np.int64] = field(init=False)
    union: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.intersection = np.zeros(self.classes, np.int64)
        self.union = np.zeros(self.classes, np.int64)

    def add(self, ours: ResultFrame, theirs: ResultFrame) -> float | None:
        """Count a frame.

        Returns:
            The share of its pixels that changed, 0 to 1: the larger of class and anomaly. None if its pictures
            differ in size; then `damage` says so, and the frame is not counted.
        """
        a, b = ours.pictures["semantic_mask"], theirs.pictures["semantic_mask"]
        sizes = {picture.shape for frame in (ours, theirs) for picture in frame.pictures.values()}
        if len(sizes) > 1:
            shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            self.damage.append(
                f"the pictures of stamp {ours.stamp_ns} are {shown}; pictures of one frame have one size"
            )
            return None
        self.frames += 1
        equal = a == b
        agreeing = int(np.count_nonzero(equal))
        self.pixels += a.size
        self.agreeing += agreeing
        counts_a, counts_b = (np.bincount(x.ravel(), minlength=256) for x in (a, b))
        both = np.bincount(a[equal], minlength=256)
        self.intersection += both[: self.classes]
        self.union += (counts_a + counts_b - both)[: self.classes]
        change = 1 - agreeing / a.size
        if "anomaly_mask" in ours.pictures and "anomaly_mask" in theirs.pictures:
            mask_a, mask_b = ours.pictures["anomaly_mask"] > 0, theirs.pictures["anomaly_mask"] > 0
            union = int(np.count_nonzero(mask_a | mask_b))
            intersection = int(np.count_nonzero(mask_a & mask_b))
            self.anomalous_any += union
            self.anomalous_both += intersection
            change = max(change, (union - intersection) / a.size)
        if "anomaly_score" in ours.pictures and "anomaly_score" in theirs.pictures:
            difference = np.abs(_score(ours) - _score(theirs))
            self.score_pixels += difference.size
            self.score_difference += float(difference.sum(dtype=np.float64))
            self.largest_score_difference = max(self.largest_score_difference, float(difference.max()))
        if ours.obstacles is not None and theirs.obstacles is not None:
            counts = self.obstacles.setdefault(ours.camera, ObstacleCounts())
            matched = matched_boxes(ours.obstacles, theirs.obstacles)
            counts.frames += 1
            counts.here += len(ours.obstacles)
            counts.there += len(theirs.obstacles)
            counts.gained += len(ours.obstacles) - matched
            counts.lost += len(theirs.obstacles) - matched
        return change

    def figures(self, names: Sequence[str], common: Collection[int]) -> dict[str, Any]:
        """The figures, those with a limit under its name.

        Args:
            names: names of the classes, by id.
            common: ids of the classes that both runs have; only they have an IoU.
        """
        iou = {
            name: float(i / u)
            for number, (name, i, u) in enumerate(
                zip(names, self.intersection.tolist(), self.union.tolist(), strict=True)
            )
            if u and number in common
        }
        return {
            "frames": self.frames,
            "frames_missing": self.only_here + self.only_there,
            "only_here": self.only_here,
            "only_there": self.only_there,
            "class_agreement": self.agreeing / self.pixels if self.pixels else None,
            "class_iou": min(iou.values()) if iou else None,
            "iou_by_class": iou,
            "anomaly_iou": (self.anomalous_both / self.anomalous_any if self.anomalous_any else 1.0)
            if self.frames
            else None,
            "score_difference": self.score_difference / self.score_pixels if self.score_pixels else None,
            "largest_score_difference": self.largest_score_difference if self.score_pixels else None,
            "obstacles_gained": sum(c.gained for c in self.obstacles.values()) if self.obstacles else None,
            "obstacles_lost": sum(c.lost for c in self.obstacles.values()) if self.obstacles else None,
            "obstacles_by_camera": {camera: asdict(counts) for camera, counts in sorted(self.obstacles.items())},
        }


def _score(frame: ResultFrame) -> NDArray[np.float32]:
    score = frame.pictures["anomaly_score"]
    return score.astype(np.float32) / np.float32(255) if score.dtype == np.uint8 else score


def matched_boxes(ours: Sequence[DetectedBox], theirs: Sequence[DetectedBox]) -> int:
    """Number of pairs of boxes that overlap by `SAME_OBSTACLE_IOU`, each box in one pair; the best pairs first."""
    if not ours or not theirs:
        return 0
    iou = _iou(_corners(ours)[:, None], _corners(theirs)[None])
    rows, columns = np.nonzero(iou >= SAME_OBSTACLE_IOU)
    # Equal pairs in reverse order: any order would do that is the same on every run.
    order = np.lexsort((columns, rows, iou[rows, columns]))[::-1]
    used_a: set[int] = set()
    used_b: set[int] = set()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
    return len(used_a)


def _corners(boxes: Sequence[DetectedBox]) -> NDArray[np.float64]:
    """(n, 4) left, top, right and bottom, pixels."""
    return np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes], np.float64)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) and (..., 4) -> (...) in [0, 1]; the boxes have an area."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = np.prod(np.maximum(sides, 0.0), axis=-1)
    areas = [np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b)]
    return np.asarray(inside / (areas[0] + areas[1] - inside))
