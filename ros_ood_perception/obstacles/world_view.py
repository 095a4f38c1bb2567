"""One frame over the ground with the vehicle's pose known: where its regions are in the fixed frame. Knows no ROS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.matching import best_pairs, edges
from ros_ood_perception.obstacles.motion import PlanarPose
from ros_ood_perception.obstacles.places import GATE, Places, measured_places
from ros_ood_perception.obstacles.regions import Region, RegionFinder, drivable_table
from ros_ood_perception.obstacles.standing import Standings


class WorldView:
    """One frame over the ground.

    Args:
        regions: N of the frame.
        boxes: (N, 4) of the regions, see `matching.sides`.
        standings: of the regions.
        ground: the camera over the ground.
        pose: of the vehicle at the frame's stamp.
        stamp_ns: of the frame.
        settings: errors of the places.

    Attributes:
        placed: numbers of the regions with a place: a foot that is cut may be nearer, so it is none.
        places: (5, 2, M) of these, in the fixed frame and in the vehicle's.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        boxes: NDArray[np.int64],
        standings: Standings,
        ground: GroundProjection,
        pose: PlanarPose,
        stamp_ns: int,
        settings: EvidenceSettings,
    ) -> None:
        self._boxes, self._ground, self._pose = boxes, ground, pose
        self.stamp_ns = stamp_ns
        is_cut = np.array([region.foot_is_cut for region in regions], np.bool_)
        self.placed = (np.isfinite(standings.range_m) & ~is_cut).nonzero()[0]
        range_m, bearing_rad = standings.range_m[self.placed], standings.bearing_rad[self.placed]
        in_vehicle = measured_places(boxes[self.placed], range_m, bearing_rad, ground, settings)
        self.places = Places(np.array([in_vehicle.in_fixed_frame(pose).columns, in_vehicle.columns]).transpose(1, 0, 2))

    def matches(self, followed: Places) -> tuple[NDArray[np.int64], list[int]]:
        """Regions and places whose places agree if the thing stands in the world, the nearest first.

        Args:
            followed: (5, M) places of the fixed frame.

        Returns:
            Numbers of regions and of followed places. Each is in one pair at most.
        """
        apart, _ = Places(self.places.columns[:, 0, :, None]).differences(Places(followed.columns[:, None]))
        rows, columns = (apart <= GATE).nonzero()
        nearest_rows, nearest_columns = best_pairs(rows, columns, apart[rows, columns])
        return self.placed[nearest_rows], nearest_columns

    def is_visible(self, places: Places, result: FramePerception, finder: RegionFinder) -> NDArray[np.bool_]:
        """(N,) Whether places (5, N) of the fixed frame are in view and near enough, and nothing stands before them.

        A thing stands there if the pixel shows no drivable ground, or a region covers it.

        Args:
            result: of the frame.
            finder: gives the drivable classes; without any, a place counts as free. Gives the ego mask too.
        """
        x, y = places.columns[:2]
        in_vehicle = np.full((len(x), 3), self._ground.ground_z_m)
        in_vehicle[:, :2] = np.array([x - self._pose.x, y - self._pose.y]).T @ self._pose.rotation
        pixels = self._ground.pixels(in_vehicle)
        seen = np.isfinite(pixels[:, 0]) & (self._ground.range_m(in_vehicle) <= self._ground.max_range_m)
        u, v = np.where(seen, pixels.T, 0.0)
        if finder.settings.drivable_ids is not None:
            ids = _at(result.engine_semantic, u, v, result.frame_size)
            seen &= drivable_table(finder.settings.drivable_ids)[ids].view(np.bool_)
        if finder.ego_mask is not None:
            seen &= ~_at(finder.ego_mask, u, v, result.frame_size)
        if len(self._boxes):
            left, top, right, bottom = edges(self._boxes)[:, :, None]
            seen &= ~((u >= left) & (u < right) & (v >= top) & (v < bottom)).any(axis=0)
        return seen


def _at(
    plane: NDArray[np.generic], u: NDArray[np.float64], v: NDArray[np.float64], frame_size: tuple[int, int]
) -> NDArray[np.generic]:
    """Values (N,) of a plane (h, w), which shows the frame at another size, at the frame's pixels u, v (N,)."""
    # Rounding may give the number of rows or columns.
    rows = np.minimum((v + 0.5) * plane.shape[0] / frame_size[0], plane.shape[0] - 1).astype(np.int64)
    columns = np.minimum((u + 0.5) * plane.shape[1] / frame_size[1], plane.shape[1] - 1).astype(np.int64)
    return plane[rows, columns]
