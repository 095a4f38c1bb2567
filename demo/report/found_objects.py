"""Matches obstacles on the ground with unknown objects: which were found, at what range, how well placed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sample_drive.ground_truth import TrueObstacle

BEARING_SLACK_RAD = math.radians(1.0)
"""Largest difference of the bearings of an obstacle and its object."""
RANGE_SLACK = 0.15
LEAST_RANGE_SLACK_M = 1.0
"""Ranges may differ by this share, or by this distance. A pitch of 0.3 degrees moves a place 30 m ahead by 3 m."""

Places = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedFrame:
    """One frame: the truth, and the published obstacles.

    Attributes:
        objects: unknown objects ahead.
        obstacles: id to places (N, 2) x, y of its points, metres.
    """

    objects: tuple[TrueObstacle, ...]
    obstacles: Mapping[int, Places]


@dataclass(frozen=True)
class Visibility:
    """When an object counts as in view: it shows at least this many pixels, and is at most this far away."""

    min_pixels: float
    max_range_m: float

    def shows(self, obstacle: TrueObstacle) -> bool:
        """Whether the object is in view."""
        return obstacle.visible_pixels >= self.min_pixels and obstacle.range_m <= self.max_range_m


@dataclass
class FoundObject:
    """One unknown object over the drive.

    Attributes:
        in_view: positions of the frames in which it is in view.
        found: positions of the frames among them in which an obstacle matches it.
        first_in_view_m, first_found_m: its true range in the first frame of each.
        errors_m: of each matching obstacle, the distance from its nearest point in the object's direction to the
            footprint; 0 inside.
    """

    id: int
    kind: str
    height_m: float
    in_view: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    first_in_view_m: float | None = None
    first_found_m: float | None = None
    errors_m: list[float] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Plain values for `summary.json` and the report's table."""
        return {
            "id": self.id,
            "kind": self.kind,
            "height_m": self.height_m,
            "frames_in_view": len(self.in_view),
            "frames_found": len(self.found),
            "first_in_view_m": self.first_in_view_m,
            "first_found_m": self.first_found_m,
            "placement_error_m": statistics.median(self.errors_m) if self.errors_m else None,
        }


@dataclass
class Findings:
    """The matches of a drive.

    Attributes:
        objects: those that were in view, in the order in which they came into view.
        matches: by frame, obstacle id to object id.
        false_ids: obstacles that matched no object in any frame.
    """

    objects: list[FoundObject]
    matches: list[dict[int, int]]
    false_ids: set[int]

    def summary(self, seconds: float) -> dict[str, Any]:
        """Plain values for `summary.json`.

        Args:
            seconds: length of the drive, in its own time.
        """
        seen = [found for found in self.objects if found.found]
        ranges = [found.first_found_m for found in seen if found.first_found_m is not None]
        errors = [error for found in self.objects for error in found.errors_m]
        return {
            "objects": len(self.objects),
            "found": len(seen),
            "missed": [f"{found.kind} {found.id}" for found in self.objects if not found.found],
            "first_found_m": statistics.median(ranges) if ranges else None,
            "placement_error_m": {
                "median": statistics.median(errors) if errors else None,
                "p95": float(np.percentile(errors, 95)) if errors else None,
            },
            "false_obstacles": len(self.false_ids),
            "false_obstacles_per_minute": 60 * len(self.false_ids) / seconds if seconds > 0 else None,
            "each": [found.as_row() for found in self.objects],
        }


def find_objects(frames: Sequence[JudgedFrame], camera_xy: tuple[float, float], visibility: Visibility) -> Findings:
    """Match obstacles with objects, frame by frame.

    An obstacle matches an object when its nearest point in the object's direction is at the object's range, within the
    slack above. Of several objects it matches the one with the nearest range. Several obstacles can match one object.

    Args:
        camera_xy: the point below the camera, the origin of ranges and bearings.
    """
    objects: dict[int, FoundObject] = {}
    matches: list[dict[int, int]] = []
    ever: dict[int, bool] = defaultdict(bool)
    for position, frame in enumerate(frames):
        for truth in frame.objects:
            if visibility.shows(truth):
                found = objects.setdefault(truth.id, FoundObject(truth.id, truth.kind, truth.height_m))
                found.first_in_view_m = truth.range_m if found.first_in_view_m is None else found.first_in_view_m
                found.in_view.append(position)
        matched: dict[int, int] = {}
        for obstacle_id, places in frame.obstacles.items():
            match = _match(places, frame.objects, camera_xy)
            ever[obstacle_id] |= match is not None
            if match is None:
                continue
            truth, nearest = match
            matched[obstacle_id] = truth.id
            if not visibility.shows(truth):
                continue
            # The loop above has added it.
            found = objects[truth.id]
            found.first_found_m = truth.range_m if found.first_found_m is None else found.first_found_m
            if not found.found or found.found[-1] != position:
                found.found.append(position)
            found.errors_m.append(_outside_m(nearest, truth))
        matches.append(matched)
    return Findings(list(objects.values()), matches, {number for number, known in ever.items() if not known})


def nearest_range_m(places: Places, camera_xy: tuple[float, float]) -> float:
    """Range of the nearest of an obstacle's places (N, 2) from the point below the camera, metres."""
    return float(_seen_from(places, camera_xy)[1].min())


def _match(
    places: Places, objects: Sequence[TrueObstacle], camera_xy: tuple[float, float]
) -> tuple[TrueObstacle, NDArray[np.float64]] | None:
    """The object that an obstacle matches, and the obstacle's nearest place in the object's direction."""
    bearings, ranges = _seen_from(places, camera_xy)
    best: tuple[float, TrueObstacle, NDArray[np.float64]] | None = None
    for truth in objects:
        outline, _ = _seen_from(np.array(truth.footprint), camera_xy)
        towards = (bearings >= outline.min() - BEARING_SLACK_RAD) & (bearings <= outline.max() + BEARING_SLACK_RAD)
        if not towards.any():
            continue
        nearest = np.where(towards, ranges, np.inf).argmin()
        difference = abs(float(ranges[nearest]) - truth.range_m)
        slack = max(LEAST_RANGE_SLACK_M, RANGE_SLACK * truth.range_m)
        if difference <= slack and (best is None or difference < best[0]):
            best = (difference, truth, places[nearest])
    return None if best is None else best[1:]


def _seen_from(places: Places, camera_xy: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bearings, radians, and ranges, metres, of places (N, 2) from the point below the camera."""
    x, y = (places - camera_xy).T
    # Places beside or behind the camera are not in its image, so no angle wraps around.
    return np.arctan2(y, np.maximum(x, 1e-6)), np.hypot(x, y)


def _outside_m(place: NDArray[np.float64], truth: TrueObstacle) -> float:
    """Distance of a place (2,) from the object's footprint, metres; 0 inside."""
    outline = np.array(truth.footprint, np.float32)[:, None]
    return max(-float(cv2.pointPolygonTest(outline, (float(place[0]), float(place[1])), True)), 0.0)
