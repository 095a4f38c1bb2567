"""Regions followed over time and placed on the ground: the obstacles of one camera. Knows no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.regions import Box, Region, RegionFinder, RegionSettings

SECONDS_PER_NANOSECOND = 1e-9


@dataclass(frozen=True)
class PersistenceSettings:
    """When a region becomes an obstacle: seen in `seen_frames` of the last `of_frames` frames.

    Attributes:
        seen_frames: k, at least 1.
        of_frames: n, at least k.
        max_gap_s: seconds without a frame after which all earlier frames are forgotten.
        reach: how far a region may move between frames and stay the same one, in widths and heights of its box.
    """

    seen_frames: int = 2
    of_frames: int = 3
    max_gap_s: float = 1.0
    reach: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.seen_frames <= self.of_frames:
            raise ValueError(
                f"persistence is {self.seen_frames} of {self.of_frames} frames; seen_frames must be from 1 to of_frames"
            )
        if not self.max_gap_s > 0:
            raise ValueError(f"max_gap_s is {self.max_gap_s}; it must be positive")
        if not 0 <= self.reach <= 10:
            raise ValueError(f"reach is {self.reach}; it must be in [0, 10]")


@dataclass(frozen=True)
class Obstacle:
    """A region that persists, and where it stands.

    Attributes:
        id: the same as long as it is followed. Ids start at 1; a detector never uses one twice.
        age_frames: number of frames in which it was seen, this one included.
        age_s: seconds since it was first seen.
        region: score, box and foot points in this frame.
        ground_points: x, y, z in the vehicle's frame, metres, of the foot points that could be placed, left to right.
            Empty without a camera's geometry, above the horizon and beyond the largest range.
        range_m: distance of the nearest ground point from the point below the camera; None: there is no ground point.
        width_m: width across the line of sight, at `range_m`; None: there is no ground point.
    """

    id: int
    age_frames: int
    age_s: float
    region: Region
    ground_points: tuple[tuple[float, float, float], ...] = ()
    range_m: float | None = None
    width_m: float | None = None

    @property
    def position(self) -> tuple[float, float, float] | None:
        """The mean of `ground_points`; None if there is none."""
        if not self.ground_points:
            return None
        x, y, z = np.mean(self.ground_points, axis=0).tolist()
        return (x, y, z)


@dataclass
class _Track:
    id: int
    box: Box
    first_stamp_ns: int
    age_frames: int
    seen: deque[bool]


class ObstacleDetector:
    """Finds the obstacles of one camera, one frame after the other. It remembers earlier frames.

    The same frames with the same stamps give the same obstacles.

    Args:
        finder: which regions count.
        persistence: when they become obstacles.

    Attributes:
        too_far_apart_s: the gap that keeps regions from persisting, seconds; None if frames are frequent enough. It is
            the last gap above `max_gap_s` before which fewer than `seen_frames` frames came. It is None again once
            `seen_frames` frames have come without such a gap.
    """

    def __init__(self, finder: RegionFinder | None = None, persistence: PersistenceSettings | None = None) -> None:
        self.finder = finder or RegionFinder(RegionSettings())
        self.persistence = persistence or PersistenceSettings()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._last_stamp_ns: int | None = None
        self._uninterrupted_frames = 0
        self.too_far_apart_s: float | None = None

    def __call__(
        self, result: FramePerception, stamp_ns: int, ground: GroundProjection | None = None
    ) -> tuple[Obstacle, ...]:
        """The obstacles of the next frame, the largest first.

        A stamp that goes back (a bag that loops, a clock that was reset) or comes more than `max_gap_s` later makes the
        detector forget. Ids continue.

        Args:
            result: classes and score of one frame.
            stamp_ns: the frame's stamp, nanoseconds.
            ground: the camera's geometry; None: not known, so obstacles have no place.
        """
        self._forget_if_interrupted(stamp_ns)
        regions = self.finder(result)
        tracks = self._follow(regions, stamp_ns)
        obstacles = [
            Obstacle(track.id, track.age_frames, (stamp_ns - track.first_stamp_ns) * SECONDS_PER_NANOSECOND, region)
            for region, track in zip(regions, tracks, strict=True)
            if sum(track.seen) >= self.persistence.seen_frames
        ]
        return _placed(obstacles, ground) if ground is not None else tuple(obstacles)

    def configure(self, finder: RegionFinder, persistence: PersistenceSettings) -> None:
        """Change the settings. Earlier frames and ids are kept."""
        self.finder, self.persistence = finder, persistence
        for track in self._tracks:
            track.seen = deque(track.seen, maxlen=persistence.of_frames)

    def reset(self) -> None:
        """Forget earlier frames."""
        self._tracks.clear()
        self._last_stamp_ns = None
        self._uninterrupted_frames = 0

    @property
    def too_far_apart(self) -> str:
        """A sentence with a remedy if frames come too seldom for regions to persist; else empty."""
        if self.too_far_apart_s is None:
            return ""
        return (
            f"the stamps of two frames that were used are {self.too_far_apart_s:.2f} s apart; after "
            f"persistence.max_gap_s ({self.persistence.max_gap_s:g} s) without a frame earlier frames are forgotten, "
            f"so no region is seen in persistence.seen_frames ({self.persistence.seen_frames}) frames; raise "
            "persistence.max_gap_s above the gap, use more frames (camera, engine, max_rate_hz, a replay's --every), "
            "or set persistence.seen_frames to 1"
        )

    def state(self) -> dict[str, Any]:
        """What is remembered of earlier frames, as plain data (JSON)."""
        tracks = [
            {"id": t.id, "box": astuple(t.box), "first": t.first_stamp_ns, "age": t.age_frames, "seen": list(t.seen)}
            for t in self._tracks
        ]
        return {
            "tracks": tracks,
            "next_id": self._next_id,
            "last_stamp_ns": self._last_stamp_ns,
            "uninterrupted_frames": self._uninterrupted_frames,
            "too_far_apart_s": self.too_far_apart_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        of_frames = self.persistence.of_frames
        self._tracks = [
            _Track(t["id"], Box(*t["box"]), t["first"], t["age"], deque(map(bool, t["seen"]), maxlen=of_frames))
            for t in state["tracks"]
        ]
        self._next_id, self._last_stamp_ns = state["next_id"], state["last_stamp_ns"]
        self._uninterrupted_frames = state["uninterrupted_frames"]
        self.too_far_apart_s = state["too_far_apart_s"]

    def _forget_if_interrupted(self, stamp_ns: int) -> None:
        if self._last_stamp_ns is not None:
            gap_s = (stamp_ns - self._last_stamp_ns) * SECONDS_PER_NANOSECOND
            if gap_s > self.persistence.max_gap_s and self._uninterrupted_frames < self.persistence.seen_frames:
                self.too_far_apart_s = gap_s
            if gap_s < 0 or gap_s > self.persistence.max_gap_s:
                self.reset()
        self._last_stamp_ns = stamp_ns
        self._uninterrupted_frames += 1
        if self._uninterrupted_frames >= self.persistence.seen_frames:
            self.too_far_apart_s = None

    def _follow(self, regions: tuple[Region, ...], stamp_ns: int) -> list[_Track]:
        """The track of each region, in their order: an earlier one that is near enough, else a new one."""
        for track in self._tracks:
            track.seen.append(False)
        found: dict[int, _Track] = {}
        for r, t in self._matches(regions):
            track = self._tracks[t]
            track.box, track.seen[-1] = regions[r].box, True
            track.age_frames += 1
            found[r] = track
        for r, region in enumerate(regions):
            if r not in found:
                seen = deque([True], maxlen=self.persistence.of_frames)
                found[r] = _Track(self._next_id, region.box, stamp_ns, 1, seen)
                self._tracks.append(found[r])
                self._next_id += 1
        self._tracks = [track for track in self._tracks if any(track.seen)]
        return [found[r] for r in range(len(regions))]

    def _matches(self, regions: tuple[Region, ...]) -> list[tuple[int, int]]:
        """Pairs (region, track). Each is in one pair at most; those whose grown boxes overlap most come first."""
        if not regions or not self._tracks:
            return []
        overlap = _overlaps(
            _grown([region.box for region in regions], self.persistence.reach),
            _grown([track.box for track in self._tracks], self.persistence.reach),
        )
        pairs = np.argwhere(overlap > 0)
        # Equal overlaps go to the larger region and the older track: both lists are in that order.
        pairs = pairs[np.argsort(-overlap[tuple(pairs.T)], kind="stable")]
        taken_regions: set[int] = set()
        taken_tracks: set[int] = set()
        chosen = []
        for r, t in pairs.tolist():
            if r not in taken_regions and t not in taken_tracks:
                taken_regions.add(r)
                taken_tracks.add(t)
                chosen.append((r, t))
        return chosen


def _grown(boxes: list[Box], reach: float) -> NDArray[np.float64]:
    """Left, top, right, bottom (N, 4) of boxes grown on each side by `reach` / 2 of their size.

    Half, because both the region's and the track's box grow.
    """
    left, top, width, height = np.array([(b.x, b.y, b.width, b.height) for b in boxes], np.float64).T
    x, y = width * reach / 2, height * reach / 2
    return np.stack([left - x, top - y, left + width + x, top + height + y], axis=1)


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return intersection / (areas[0][:, None] + areas[1][None] - intersection)


def _placed(obstacles: list[Obstacle], ground: GroundProjection) -> tuple[Obstacle, ...]:
    # All points in one call: the call costs more than a point does.
    foot_points = [obstacle.region.foot_points for obstacle in obstacles]
    places = ground.place([point for points in foot_points for point in points])
    ranges = ground.range_m(places)
    placed, begin = [], 0
    for obstacle, points in zip(obstacles, foot_points, strict=True):
        end = begin + len(points)
        seen = np.flatnonzero(np.isfinite(ranges[begin:end])) + begin
        begin = end
        if len(seen):
            range_m = float(ranges[seen].min())
            bearings = np.unwrap(ground.bearing_rad(places[seen]))
            obstacle = replace(
                obstacle,
                ground_points=tuple((x, y, z) for x, y, z in places[seen].tolist()),
                range_m=range_m,
                width_m=range_m * float(bearings.max() - bearings.min()),
            )
        placed.append(obstacle)
    return tuple(placed)
