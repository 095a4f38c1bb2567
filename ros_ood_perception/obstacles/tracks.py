"""Regions followed over time and placed on the ground: the obstacles of one camera. Knows no ROS.

Where the vehicle's motion is known, a region with a place on the ground is followed there, in a fixed frame, and
becomes an obstacle by `evidence`. Any other is followed in the picture, and counts by `PersistenceSettings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.evidence import EvidenceSettings, after_places
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.matching import matches_in_picture, sides
from ros_ood_perception.obstacles.motion import SECONDS_PER_NANOSECOND, FrameMotion
from ros_ood_perception.obstacles.places import Places, updated, walked
from ros_ood_perception.obstacles.regions import Region, RegionFinder, RegionSettings
from ros_ood_perception.obstacles.standing import Standings, large_enough, standings
from ros_ood_perception.obstacles.track_table import SEEN, SPEAKS_FOR, UNSEEN, TrackTable
from ros_ood_perception.obstacles.world_view import WorldView

MOST_REMEMBERED = 256
"""Tracks that are kept although no region was theirs in the last frames."""


@dataclass(frozen=True)
class PersistenceSettings:
    """When a region becomes an obstacle: seen in `seen_frames` of the last `of_frames` frames.

    A frame whose score speaks against an object does not count. With a negative `EvidenceSettings.weak_sighting` there
    are such frames.

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
        self._tracks = TrackTable(self.persistence.of_frames)
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
        regions: Sequence[Region] = self.finder(result)
        places: Standings | None = None
        if ground is not None:
            regions, places = large_enough(regions, standings(regions, ground), self.finder.settings.min_size_m)
        if motion is not None and motion.pose is not None:
            if self._epoch is not None and motion.epoch != self._epoch:
                self._forget_tracks()
            self._epoch = motion.epoch
        if not regions and not len(self._tracks):
            return ()
        boxes, world = sides(region.box for region in regions), None
        if places is not None and ground is not None and motion is not None and motion.pose is not None:
            world = WorldView(regions, boxes, places, ground, motion.pose, stamp_ns, self.evidence)
        tracks = self._follow(boxes, stamp_ns, world)
        self._gather_evidence(tracks, regions, result, world)
        counted = self._are_obstacles(tracks, world).nonzero()[0]
        found = self._obstacles(
            tracks[counted],
            [regions[r] for r in counted.tolist()],
            None if places is None else places.taken(counted),
            stamp_ns,
            world is not None,
        )
        self._drop_lost(stamp_ns)
        return found

    def configure(
        self, finder: RegionFinder, persistence: PersistenceSettings, evidence: EvidenceSettings | None = None
    ) -> None:
        """Change the settings. Earlier frames and ids are kept.

        Args:
            evidence: None: unchanged.
        """
        self.finder, self.persistence, self.evidence = finder, persistence, evidence or self.evidence
        self._tracks.remember(persistence.of_frames)

    def reset(self) -> None:
        """Forget earlier frames."""
        self._forget_tracks()
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
            "tracks": self._tracks.state(),
            "next_id": self._next_id,
            "last_stamp_ns": self._last_stamp_ns,
            "epoch": self._epoch,
            "uninterrupted_frames": self._uninterrupted_frames,
            "too_far_apart_s": self.too_far_apart_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._tracks = TrackTable.restored(state["tracks"], self.persistence.of_frames)
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

    def _forget_tracks(self) -> None:
        self._tracks = TrackTable(self.persistence.of_frames)

    def _follow(self, boxes: NDArray[np.int64], stamp_ns: int, world: WorldView | None) -> NDArray[np.int64]:
        """Numbers (N,) of the tracks of regions with boxes (N, 4): earlier ones that are near enough, else new ones."""
        tracks = self._matches(boxes, world)
        self._tracks.begin_frame()
        new = (tracks < 0).nonzero()[0]
        if len(new):
            tracks[new] = len(self._tracks) + np.arange(len(new))
            self._tracks.add(range(self._next_id, self._next_id + len(new)), stamp_ns)
            self._next_id += len(new)
        self._tracks.see(tracks, boxes, stamp_ns)
        return tracks

    def _matches(self, boxes: NDArray[np.int64], world: WorldView | None) -> NDArray[np.int64]:
        """The earlier track (N,) of each region: by place first, then by the picture among those left; -1: none."""
        rows, tracks = self._tracks.rows, np.full(len(boxes), -1)
        # The box of a track that was not seen in the last frames is not where it would be in this one.
        near = self._tracks.seen.any(axis=1)
        if world is not None and len(world.placed) and rows["has_place"].any():
            with_place = rows["has_place"].nonzero()[0]
            since_ns = world.stamp_ns - rows["place_stamp_ns"][with_place]
            followed = Places(rows["places"][with_place, 0].T).wider(walked(since_ns, self.evidence))
            of_regions, of_places = world.matches(followed)
            tracks[of_regions] = with_place[of_places]
            near[with_place[of_places]] = False
        left, near = (tracks < 0).nonzero()[0], near.nonzero()[0]
        of_left, of_near = matches_in_picture(boxes[left], rows["box"][near], self.persistence.reach)
        tracks[left[of_left]] = near[of_near]
        return tracks

    def _gather_evidence(
        self, tracks: NDArray[np.int64], regions: Sequence[Region], result: FramePerception, world: WorldView | None
    ) -> None:
        """Take what this frame says: of tracks (N,) that the regions show, and of those that should be marked too."""
        rows, settings = self._tracks.rows, self.evidence
        if len(tracks):
            sightings = settings.sightings(np.array([region.strength for region in regions]), result.anomaly_threshold)
            rows["sighted"][tracks] = settings.after_sightings(rows["sighted"][tracks], sightings)
            self._tracks.seen[tracks, -1] = np.where(sightings >= 0, SPEAKS_FOR, SEEN)
        if world is None:
            return
        if len(world.placed):
            self._follow_places(tracks[world.placed], world)
        unseen = (rows["has_place"] & (self._tracks.seen[:, -1] == UNSEEN)).nonzero()[0]
        if len(unseen):
            missed = unseen[world.is_visible(Places(rows["places"][unseen, 0].T), result, self.finder)]
            rows["sighted"][missed] = settings.after_miss(rows["sighted"][missed])

    def _follow_places(self, tracks: NDArray[np.int64], world: WorldView) -> None:
        """Take the places of `world` for these tracks, and their evidence; the first place of a track has none."""
        rows, measured = self._tracks.rows, world.places.columns
        places = measured.copy()
        known = rows["has_place"][tracks]
        if known.any():
            followed = rows[tracks[known]]
            before = Places(followed["places"].T)
            after, ratios = updated(
                before.wider(walked(world.stamp_ns - followed["place_stamp_ns"], self.evidence)),
                Places(measured[:, :, known]),
            )
            places[:, :, known] = after.columns
            rows["placed"][tracks[known]] = after_places(followed["placed"], ratios)
        rows["places"][tracks] = places.T
        rows["has_place"][tracks], rows["place_stamp_ns"][tracks] = True, world.stamp_ns

    def _are_obstacles(self, tracks: NDArray[np.int64], world: WorldView | None) -> NDArray[np.bool_]:
        """(N,) Whether tracks (N,) that are seen in this frame are obstacles."""
        rows = self._tracks.rows
        has_place, shown = rows["has_place"][tracks], rows["shown"][tracks]
        persist = (self._tracks.seen[tracks] == SPEAKS_FOR).sum(axis=1) >= self.persistence.seen_frames
        if world is None:
            rows["shown"][tracks] = np.where(has_place, shown, persist)
            # This frame has no motion, and those before it and after it do.
            return persist | (shown & has_place)
        least = np.where(shown, self.evidence.vanishes_at, self.evidence.appears_at)
        found = np.where(has_place, self._tracks.evidence[tracks] >= least, persist)
        rows["shown"][tracks] = found
        return found

    def _obstacles(
        self,
        tracks: NDArray[np.int64],
        regions: Sequence[Region],
        places: Standings | None,
        stamp_ns: int,
        motion_is_known: bool,
    ) -> tuple[Obstacle, ...]:
        """Of tracks (N,) that are seen in this frame, with their regions."""
        rows = self._tracks.rows[tracks]
        ages_s = (stamp_ns - rows["first_stamp_ns"]) * SECONDS_PER_NANOSECOND
        nothing = [None] * len(tracks)
        points, ranges, widths = (
            ([()] * len(tracks), nothing, nothing)
            if places is None
            else (places.ground_points, _or_none(places.range_m), _or_none(places.width_m))
        )
        evidence = np.where(rows["has_place"], self._tracks.evidence[tracks], np.nan)
        columns = (
            *(rows["id"].tolist(), rows["age_frames"].tolist(), ages_s.tolist()),
            *(regions, points, ranges, widths),
            _or_none(evidence) if motion_is_known else nothing,
        )
        return tuple(map(Obstacle, *columns))

    def _drop_lost(self, stamp_ns: int) -> None:
        """Forget tracks that were not seen in the last frames, unless their evidence outlasts a gap."""
        kept = self._tracks.seen.any(axis=1)
        if kept.all():
            return
        rows = self._tracks.rows
        oldest_ns = stamp_ns - round(self.evidence.max_unseen_s / SECONDS_PER_NANOSECOND)
        outlasts = rows["has_place"] & (rows["last_seen_ns"] >= oldest_ns)
        outlasts &= self._tracks.evidence >= self.evidence.vanishes_at
        remembered = (outlasts & ~kept).nonzero()[0]
        latest = np.lexsort((rows["id"][remembered], rows["last_seen_ns"][remembered]))[-MOST_REMEMBERED:]
        kept[remembered[latest]] = True
        self._tracks.keep(kept)


def _or_none(values: NDArray[np.float64]) -> list[float | None]:
    """The numbers; None in place of NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]
