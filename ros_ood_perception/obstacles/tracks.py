"""Regions followed over time and placed on the ground: the obstacles of one camera. Knows no ROS.

Where the vehicle's motion is known, a region with a place on the ground is followed there, in a fixed frame, and
becomes an obstacle by `evidence`. Any other is followed in the picture, and counts by `PersistenceSettings`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.evidence import Evidence, EvidenceSettings
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.matching import matches_in_picture
from ros_ood_perception.obstacles.motion import SECONDS_PER_NANOSECOND, FrameMotion
from ros_ood_perception.obstacles.places import FollowedPlace, Place
from ros_ood_perception.obstacles.regions import Box, Region, RegionFinder, RegionSettings
from ros_ood_perception.obstacles.standing import Standing, large_enough, standings
from ros_ood_perception.obstacles.world_view import WorldView

MOST_REMEMBERED = 256
"""Tracks that are kept although no region was theirs in the last frames."""


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
        evidence: log-likelihood ratio of object to false mark, see `evidence`; None: it was decided by counting frames.
    """

    id: int
    age_frames: int
    age_s: float
    region: Region
    ground_points: tuple[tuple[float, float, float], ...] = ()
    range_m: float | None = None
    width_m: float | None = None
    evidence: float | None = None

    @property
    def position(self) -> tuple[float, float, float] | None:
        """The mean of `ground_points`; None if there is none."""
        if not self.ground_points:
            return None
        x, y, z = np.mean(self.ground_points, axis=0).tolist()
        return (x, y, z)


@dataclass
class _Track:
    """What is followed.

    Attributes:
        seen: of the last frames, whether a region was its.
        last_seen_ns: stamp of the last such frame.
        shown: whether it was an obstacle by its evidence.
        place: None while it had none.
    """

    id: int
    box: Box
    first_stamp_ns: int
    last_seen_ns: int
    age_frames: int
    seen: deque[bool]
    evidence: Evidence
    shown: bool = False
    place: FollowedPlace | None = None


class ObstacleDetector:
    """Finds the obstacles of one camera, one frame after the other. It remembers earlier frames.

    The same frames with the same stamps and motions give the same obstacles.

    Args:
        finder: which regions count; its `min_size_m` applies where they have a place on the ground.
        persistence: when regions without a place, or without the vehicle's motion, become obstacles.
        evidence: when the others do.

    Attributes:
        too_far_apart_s: the gap that keeps regions from persisting, seconds; None if frames are frequent enough. It is
            the last gap above `max_gap_s` before which fewer than `seen_frames` frames came. It is None again once
            `seen_frames` frames have come without such a gap.
    """

    def __init__(
        self,
        finder: RegionFinder | None = None,
        persistence: PersistenceSettings | None = None,
        evidence: EvidenceSettings | None = None,
    ) -> None:
        self.finder = finder or RegionFinder(RegionSettings())
        self.persistence = persistence or PersistenceSettings()
        self.evidence = evidence or EvidenceSettings()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._last_stamp_ns: int | None = None
        self._epoch: int | None = None
        self._uninterrupted_frames = 0
        self.too_far_apart_s: float | None = None

    def __call__(
        self,
        result: FramePerception,
        stamp_ns: int,
        ground: GroundProjection | None = None,
        motion: FrameMotion | None = None,
    ) -> tuple[Obstacle, ...]:
        """The obstacles of the next frame, the largest first.

        A stamp that goes back (a bag that loops, a clock that was reset) or comes more than `max_gap_s` later makes the
        detector forget, and so does a new epoch of the motion. Ids continue.

        Args:
            result: classes and score of one frame.
            stamp_ns: the frame's stamp, nanoseconds.
            ground: the camera's geometry; None: not known, so obstacles have no place.
            motion: where the vehicle was at that stamp; None: nothing tells.
        """
        self._forget_if_interrupted(stamp_ns)
        regions = self.finder(result)
        places: list[Standing | None] = []
        if ground is not None and regions:
            regions, places = large_enough(regions, standings(regions, ground), self.finder.settings.min_size_m)
        world = None
        if motion is not None and motion.pose is not None:
            if self._epoch is not None and motion.epoch != self._epoch:
                self._tracks.clear()
            self._epoch = motion.epoch
            if ground is not None:
                world = WorldView(regions, places, ground, motion.pose, stamp_ns, self.evidence)
        tracks = self._follow(regions, stamp_ns, result.anomaly_threshold, world)
        if world is not None:
            self._miss(world, result)
        counts = [self._is_obstacle(track, world) for track in tracks]
        self._drop_lost(stamp_ns)
        found = [
            Obstacle(
                track.id,
                track.age_frames,
                (stamp_ns - track.first_stamp_ns) * SECONDS_PER_NANOSECOND,
                region,
                evidence=None if world is None or track.place is None else track.evidence.total,
            )
            for region, track, counted in zip(regions, tracks, counts, strict=True)
            if counted
        ]
        if ground is None:
            return tuple(found)
        return tuple(map(_placed, found, compress(places, counts)))

    def configure(
        self, finder: RegionFinder, persistence: PersistenceSettings, evidence: EvidenceSettings | None = None
    ) -> None:
        """Change the settings. Earlier frames and ids are kept.

        Args:
            evidence: None: unchanged.
        """
        self.finder, self.persistence, self.evidence = finder, persistence, evidence or self.evidence
        for track in self._tracks:
            track.seen = deque(track.seen, maxlen=persistence.of_frames)

    def reset(self) -> None:
        """Forget earlier frames."""
        self._tracks.clear()
        self._last_stamp_ns = None
        self._epoch = None
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
        return {
            "tracks": [_track_state(track) for track in self._tracks],
            "next_id": self._next_id,
            "last_stamp_ns": self._last_stamp_ns,
            "epoch": self._epoch,
            "uninterrupted_frames": self._uninterrupted_frames,
            "too_far_apart_s": self.too_far_apart_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._tracks = [_restored_track(known, self.persistence.of_frames) for known in state["tracks"]]
        self._next_id, self._last_stamp_ns = state["next_id"], state["last_stamp_ns"]
        self._epoch = state["epoch"]
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

    def _follow(
        self, regions: tuple[Region, ...], stamp_ns: int, threshold: float, world: WorldView | None
    ) -> list[_Track]:
        """The track of each region, in their order: an earlier one that is near enough, else a new one."""
        matched = dict(self._matches(regions, world))
        for track in self._tracks:
            track.seen.append(False)
        found = []
        for r, region in enumerate(regions):
            if r in matched:
                track = self._tracks[matched[r]]
                track.box, track.seen[-1], track.last_seen_ns = region.box, True, stamp_ns
                track.age_frames += 1
            else:
                seen = deque([True], maxlen=self.persistence.of_frames)
                track = _Track(self._next_id, region.box, stamp_ns, stamp_ns, 1, seen, Evidence())
                self._tracks.append(track)
                self._next_id += 1
            agreement = 0.0 if world is None else self._follow_place(track, world, r)
            track.evidence.see(self.evidence.sighting(region, threshold), agreement, self.evidence)
            found.append(track)
        return found

    def _matches(self, regions: tuple[Region, ...], world: WorldView | None) -> list[tuple[int, int]]:
        """Pairs (region, track), each in one at most: by place first, then by the picture among those that are left."""
        pairs = [] if world is None else world.matches([track.place for track in self._tracks])
        taken_regions, taken_tracks = {r for r, _ in pairs}, {t for _, t in pairs}
        left = [r for r in range(len(regions)) if r not in taken_regions]
        # The box of a track that was not seen in the last frames is not where it would be in this one.
        near = [t for t, track in enumerate(self._tracks) if t not in taken_tracks and any(track.seen)]
        boxes = [self._tracks[t].box for t in near]
        in_picture = matches_in_picture([regions[r].box for r in left], boxes, self.persistence.reach)
        return pairs + [(left[row], near[column]) for row, column in in_picture]

    def _follow_place(self, track: _Track, world: WorldView, number: int) -> float:
        """Take the place of a region of this number, if it has one; returns its evidence."""
        place, in_fixed = world.places[number], world.in_fixed[number]
        if place is None or in_fixed is None:
            return 0.0
        if track.place is None:
            track.place = FollowedPlace(in_fixed, place, world.stamp_ns)
            return 0.0
        return track.place.update(place, in_fixed, world.stamp_ns, self.evidence)

    def _miss(self, world: WorldView, result: FramePerception) -> None:
        """Count the frame against tracks that should be marked in it and are not."""
        unseen = [(track, track.place.static) for track in self._tracks if track.place and not track.seen[-1]]
        visible = world.is_visible([place for _, place in unseen], result, self.finder)
        for (track, _), is_visible in zip(unseen, visible.tolist(), strict=True):
            if is_visible:
                track.evidence.miss(self.evidence)

    def _is_obstacle(self, track: _Track, world: WorldView | None) -> bool:
        """Whether a track that is seen in this frame is an obstacle."""
        persists = sum(track.seen) >= self.persistence.seen_frames
        if track.place is None:
            track.shown = persists
        elif world is None:
            # This frame has no motion, and those before it and after it do.
            return track.shown or persists
        else:
            least = self.evidence.vanishes_at if track.shown else self.evidence.appears_at
            track.shown = track.evidence.total >= least
        return track.shown

    def _drop_lost(self, stamp_ns: int) -> None:
        """Forget tracks that were not seen in the last frames, unless their evidence outlasts a gap."""
        lost = [track for track in self._tracks if not any(track.seen)]
        oldest_ns = stamp_ns - round(self.evidence.max_unseen_s / SECONDS_PER_NANOSECOND)
        kept = [
            track
            for track in lost
            if track.place is not None
            and track.last_seen_ns >= oldest_ns
            and track.evidence.total >= self.evidence.vanishes_at
        ]
        kept.sort(key=lambda track: (track.last_seen_ns, track.id))
        remembered = {track.id for track in kept[-MOST_REMEMBERED:]}
        self._tracks = [track for track in self._tracks if any(track.seen) or track.id in remembered]


def _track_state(track: _Track) -> dict[str, Any]:
    place = track.place
    return {
        "id": track.id,
        "box": astuple(track.box),
        "first": track.first_stamp_ns,
        "last": track.last_seen_ns,
        "age": track.age_frames,
        "seen": list(track.seen),
        "evidence": astuple(track.evidence),
        "shown": track.shown,
        "place": None if place is None else [astuple(place.static), astuple(place.sliding), place.stamp_ns],
    }


def _restored_track(known: Mapping[str, Any], of_frames: int) -> _Track:
    place = None
    if known["place"] is not None:
        static, sliding, stamp_ns = known["place"]
        place = FollowedPlace(Place(*static), Place(*sliding), stamp_ns)
    return _Track(
        known["id"],
        Box(*known["box"]),
        known["first"],
        known["last"],
        known["age"],
        deque(map(bool, known["seen"]), maxlen=of_frames),
        Evidence(*known["evidence"]),
        known["shown"],
        place,
    )


def _placed(obstacle: Obstacle, standing: Standing | None) -> Obstacle:
    if standing is None:
        return obstacle
    return replace(obstacle, ground_points=standing.ground_points, range_m=standing.range_m, width_m=standing.width_m)
