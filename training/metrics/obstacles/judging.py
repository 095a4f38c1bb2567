"""One frame: which unknown objects were found, and which obstacles are false. docs/measuring.md has the rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.recordings.results import DetectedBox
from training.metrics.obstacles.published import PublishedFrame, PublishedObstacle
from training.metrics.obstacles.truth import Places, TrueFrame, TrueObject, outside_m, range_and_bearing

FOUND, ON_OBJECT, FALSE, UNPLACED = "found", "on_object", "false", "unplaced"
"""What an obstacle is in a frame. `UNPLACED`: it is not in the point cloud, so it does not count."""


@dataclass(frozen=True)
class Rule:
    """When an object is in view, and when it is found.

    Attributes:
        min_pixels: an object in view shows at least as many pixels.
        max_range_m: and is at most as far away.
        min_marked: share of its pixels that the anomaly mask must hold.
        bearing_slack_deg: largest difference between the directions of an obstacle's point and its object.
        range_slack: largest difference of their ranges, as a share of the object's range,
        least_range_slack_m: or this distance, if it is more. A pitch of 0.3 degrees moves a place 30 m ahead by 3 m.
    """

    min_pixels: int = 60
    max_range_m: float = 40.0
    min_marked: float = 0.2
    bearing_slack_deg: float = 1.0
    range_slack: float = 0.15
    least_range_slack_m: float = 1.0

    def in_view(self, known: TrueObject) -> bool:
        """Whether an object counts in this frame."""
        large = known.pixels is None or known.pixels.count >= self.min_pixels
        return large and (known.range_m is None or known.range_m <= self.max_range_m)


@dataclass(frozen=True)
class JudgedObject:
    """An object in view.

    Attributes:
        truth: the object.
        marked: share of its pixels in the anomaly mask, 0 to 1; None where its pixels are not known.
        is_marked: whether that share is at least `Rule.min_marked`.
        touched: whether the region of an obstacle holds one of its pixels; None where they are not known.
        found_by: ids of the obstacles that cover it, if it is found; else empty.
        score: the highest score of these; None if it is not found.
        errors_m: of each of these with a place, the distance from its nearest point in the object's direction to the
            footprint; 0 inside.
    """

    truth: TrueObject
    marked: float | None
    is_marked: bool
    touched: bool | None
    found_by: tuple[str, ...] = ()
    score: float | None = None
    errors_m: tuple[float, ...] = ()

    @property
    def found(self) -> bool:
        """Whether it is found in this frame."""
        return bool(self.found_by)


@dataclass(frozen=True)
class JudgedObstacle:
    """An obstacle.

    Attributes:
        id: the node's.
        verdict: `FOUND`, `ON_OBJECT`, `FALSE` or `UNPLACED`.
        score: mean anomaly score of its region, 0 to 1.
        box: around its region.
    """

    id: str
    verdict: str
    score: float
    box: DetectedBox


@dataclass(frozen=True)
class JudgedFrame:
    """The judgement of a frame: the objects in view, and all obstacles."""

    objects: tuple[JudgedObject, ...]
    obstacles: tuple[JudgedObstacle, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """Id of each obstacle to its verdict."""
        return {obstacle.id: obstacle.verdict for obstacle in self.obstacles}


def can_be_judged(frame: PublishedFrame, truth: TrueFrame) -> bool:
    """Whether every object can be compared: not one whose pixels are not known in a frame without a point cloud."""
    return frame.has_places or all(known.pixels is not None for known in truth.objects)


def judge(frame: PublishedFrame, truth: TrueFrame, camera_xy: tuple[float, float], rule: Rule) -> JudgedFrame:
    """Compare a frame's obstacles with the truth.

    An object in view is *found* if the anomaly mask holds at least `min_marked` of its pixels and an obstacle covers
    it. An obstacle *covers* an object if its region holds one of the object's pixels, and one of its points is in the
    object's direction, and the nearest of these is at the object's range. What is not known is not asked: pixels of an
    object with a place only, the place of an object with a box only, places in a frame without a point cloud.

    An obstacle is *false* if its region holds no pixel of any object, however small or far, and its points fit the
    place of no object whose pixels are not known. Several obstacles may cover one object: none of them is false.

    Args:
        frame, truth: of which `can_be_judged` is true.
        camera_xy: the point below the camera, the origin of ranges and bearings, metres.
    """
    counted = [o for o in frame.obstacles if o.places is not None or not frame.has_places]
    verdicts = {o.id: UNPLACED for o in frame.obstacles} | {o.id: FALSE for o in counted}
    objects = []
    for known in truth.objects:
        touching = _touching(frame, counted, known)
        placed = {o.id: _nearest_place(o, known, camera_xy, rule) for o in touching}
        covering = [o for o in touching if placed[o.id] is not None or not _has_places(o, known)]
        for obstacle in touching if known.pixels is not None else covering:
            verdicts[obstacle.id] = max(verdicts[obstacle.id], ON_OBJECT, key=_RANK.index)
        if not rule.in_view(known):
            continue
        marked = None if known.pixels is None else float(known.pixels.values(frame.mask).mean())
        is_marked = marked is not None and marked >= rule.min_marked
        touched = None if known.pixels is None else bool(touching)
        if not covering or not (is_marked or marked is None):
            objects.append(JudgedObject(known, marked, is_marked, touched))
            continue
        verdicts |= {obstacle.id: FOUND for obstacle in covering}
        errors = [
            outside_m(place, known.footprint)
            for obstacle in covering
            if (place := placed[obstacle.id]) is not None and known.footprint is not None
        ]
        objects.append(
            JudgedObject(
                known,
                marked,
                is_marked,
                touched,
                found_by=tuple(o.id for o in covering),
                score=max(o.score for o in covering),
                errors_m=tuple(errors),
            )
        )
    obstacles = tuple(JudgedObstacle(o.id, verdicts[o.id], o.score, o.box) for o in frame.obstacles)
    return JudgedFrame(tuple(objects), obstacles)


_RANK = (UNPLACED, FALSE, ON_OBJECT, FOUND)


def _touching(frame: PublishedFrame, counted: list[PublishedObstacle], known: TrueObject) -> list[PublishedObstacle]:
    """The obstacles whose region holds a pixel of the object; all of them where its pixels are not known."""
    if known.pixels is None:
        return counted
    numbers = set(np.unique(known.pixels.values(frame.regions)).tolist())
    ids = {o.id for o in counted}
    return [o for number, o in enumerate(frame.obstacles, 1) if number in numbers and o.id in ids]


def _has_places(obstacle: PublishedObstacle, known: TrueObject) -> bool:
    return obstacle.places is not None and known.footprint is not None


def _nearest_place(
    obstacle: PublishedObstacle, known: TrueObject, camera_xy: tuple[float, float], rule: Rule
) -> NDArray[np.float64] | None:
    """The obstacle's nearest point in the object's direction, if it is at the object's range; else None."""
    if obstacle.places is None or known.footprint is None or known.range_m is None:
        return None
    ranges, bearings = range_and_bearing(obstacle.places, camera_xy)
    _, corners = range_and_bearing(known.footprint, camera_xy)
    centre = _middle(corners)
    # Relative to the object, no angle wraps around, also behind the vehicle.
    corners, bearings = _wrapped(corners - centre), _wrapped(bearings - centre)
    slack = math.radians(rule.bearing_slack_deg)
    towards = (bearings >= corners.min() - slack) & (bearings <= corners.max() + slack)
    if not towards.any():
        return None
    nearest = int(np.where(towards, ranges, np.inf).argmin())
    difference = abs(float(ranges[nearest]) - known.range_m)
    fits = difference <= max(rule.least_range_slack_m, rule.range_slack * known.range_m)
    return obstacle.places[nearest] if fits else None


def _middle(angles: Places) -> float:
    return math.atan2(float(np.sin(angles).sum()), float(np.cos(angles).sum()))


def _wrapped(angles: Places) -> Places:
    """Angles in [-pi, pi)."""
    return (angles + math.pi) % (2 * math.pi) - math.pi
