"""Keeps the frames that differ most between two runs, one of each scene."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Any

import cv2
from numpy.typing import NDArray

from ros_ood_perception.recordings.results import DetectedBox, ResultFrame
from ros_ood_perception.replay.recorded_images import ImageKey, image_key
from ros_ood_perception.replay.report.pictures import narrowed
from ros_ood_perception.replay.scenes import SECONDS_APART

CANDIDATES = 20
"""Number of frames that are kept, from which those of different scenes are chosen."""
PART_WIDTH = 640
"""Width of each part of a picture, pixels. Two parts side by side fit on a screen."""


@dataclass(frozen=True)
class ChangedPair:
    """A frame of both runs, at most `PART_WIDTH` pixels wide, and the share of its pixels that changed."""

    changed: float
    key: ImageKey
    here: ResultFrame
    there: ResultFrame


class WorstPairs:
    """The pairs with most change so far: of each camera at most one in `SECONDS_APART`.

    Args:
        by_time: see `Scenes`.
    """

    def __init__(self, by_time: bool = True) -> None:
        self._apart_ns = round(SECONDS_APART * 1e9) if by_time else 1
        self._kept: dict[tuple[str, int], tuple[float, int, ChangedPair]] = {}
        self._number = 0

    def add(self, changed: float, here: ResultFrame, there: ResultFrame) -> None:
        """Add a frame in which something changed."""
        self._number += 1
        place = (here.camera, here.time_ns // self._apart_ns)
        rank = (changed, -self._number)
        if place in self._kept:
            if self._kept[place][:2] >= rank:
                return
        elif len(self._kept) == CANDIDATES:
            least = min(self._kept, key=lambda other: self._kept[other][:2])
            if self._kept[least][:2] >= rank:
                return
            del self._kept[least]
        pair = ChangedPair(changed, image_key(here), narrowed_result(here), narrowed_result(there))
        self._kept[place] = (*rank, pair)

    def ordered(self) -> list[ChangedPair]:
        """The kept ones, the most changed first."""
        return [pair for _, _, pair in heapq.nlargest(CANDIDATES, self._kept.values(), key=lambda kept: kept[:2])]


def narrowed_result(frame: ResultFrame) -> ResultFrame:
    """Classes, mask and obstacles of a frame, at most `PART_WIDTH` pixels wide."""
    width = frame.pictures["semantic_mask"].shape[1]
    pictures: dict[str, NDArray[Any]] = {
        name: narrowed(frame.pictures[name], PART_WIDTH, cv2.INTER_NEAREST)
        for name in ("semantic_mask", "anomaly_mask")
        if name in frame.pictures
    }
    scale = min(PART_WIDTH / width, 1.0)
    obstacles = tuple(
        DetectedBox(box.x * scale, box.y * scale, box.width * scale, box.height * scale, box.id)
        for box in frame.obstacles or ()
    )
    return replace(frame, pictures=pictures, obstacles=obstacles)
