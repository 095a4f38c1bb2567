"""One frame over the ground with the vehicle's pose known: where its regions are in the fixed frame. Knows no ROS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.matching import best_pairs
from ros_ood_perception.obstacles.motion import PlanarPose
from ros_ood_perception.obstacles.places import GATE, FollowedPlace, Place, distances, measured_places
from ros_ood_perception.obstacles.regions import Region, RegionFinder
from ros_ood_perception.obstacles.standing import Standing


class WorldView:
    """One frame over the ground.

    Args:
        regions: of the frame.
        standings: where each stands; None: no place.
        ground: the camera over the ground.
        pose: of the vehicle at the frame's stamp.
        stamp_ns: of the frame.
        settings: errors of the places.

    Attributes:
        places: of each region in the vehicle's frame; None: none, or a foot that is cut, which may be nearer.
        in_fixed: the same in the fixed frame.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        standings: Sequence[Standing | None],
        ground: GroundProjection,
        pose: PlanarPose,
        stamp_ns: int,
        settings: EvidenceSettings,
    ) -> None:
        self._regions, self._ground, self._pose = regions, ground, pose
        self.stamp_ns, self._settings = stamp_ns, settings
        self.places = measured_places(regions, standings, ground, settings)
        self.in_fixed = [None if place is None else place.in_fixed_frame(pose) for place in self.places]

    def matches(self, tracks: Sequence[FollowedPlace | None]) -> list[tuple[int, int]]:
        """Pairs (region, track) whose places agree if the thing stands in the world, the nearest first."""
        regions = [(r, place) for r, place in enumerate(self.in_fixed) if place is not None]
        followed = [
            (t, track.predicted(self.stamp_ns, self._settings)) for t, track in enumerate(tracks) if track is not None
        ]
        if not regions or not followed:
            return []
        apart = distances([place for _, place in followed], [place for _, place in regions])
        return [(regions[row][0], followed[column][0]) for row, column in best_pairs(apart, apart <= GATE)]

    def is_visible(self, places: Sequence[Place], result: FramePerception, finder: RegionFinder) -> NDArray[np.bool_]:
        """(N,) Whether places (N) of the fixed frame are in view and near enough, and nothing stands before them.

        A thing stands there if the pixel shows no drivable ground, or a region covers it.

        Args:
            result: of the frame.
            finder: gives the drivable classes; without any, a place counts as free. Gives the ego mask too.
        """
        if not places:
            return np.zeros(0, np.bool_)
        there = np.array([(place.x - self._pose.x, place.y - self._pose.y) for place in places]) @ self._pose.rotation
        ground_z = np.full((len(there), 1), self._ground.ground_z_m)
        in_vehicle = np.concatenate([there, ground_z], axis=1)
        pixels = self._ground.pixels(in_vehicle)
        seen = np.isfinite(pixels).all(axis=1) & (self._ground.range_m(in_vehicle) <= self._ground.max_range_m)
        u, v = np.where(seen, pixels.T, 0.0)
        if finder.settings.drivable_ids is not None:
            ids = _at(result.engine_semantic, u, v, result.frame_size)
            seen &= np.isin(ids, sorted(finder.settings.drivable_ids))
        if finder.ego_mask is not None:
            seen &= ~_at(finder.ego_mask, u, v, result.frame_size)
        if self._regions:
            boxes = [(r.box.x, r.box.y, r.box.x + r.box.width, r.box.y + r.box.height) for r in self._regions]
            left, top, right, bottom = np.array(boxes)[:, :, None].transpose(1, 0, 2)
            seen &= ~((u >= left) & (u < right) & (v >= top) & (v < bottom)).any(axis=0)
        return seen


def _at(
    plane: NDArray[np.generic], u: NDArray[np.float64], v: NDArray[np.float64], frame_size: tuple[int, int]
) -> NDArray[np.generic]:
    """Values (N,) of a plane (h, w), which shows the frame at another size, at the frame's pixels u, v (N,)."""
    rows = np.clip((v + 0.5) * plane.shape[0] / frame_size[0], 0, plane.shape[0] - 1).astype(np.int64)
    columns = np.clip((u + 0.5) * plane.shape[1] / frame_size[1], 0, plane.shape[1] - 1).astype(np.int64)
    return plane[rows, columns]
