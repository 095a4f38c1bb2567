"""What a frame says of the ground: free, unknown or anomalous, as a grid and as the edge of what is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.ground import GroundProjection
from ros_ood_perception.obstacle_cloud import obstacle_points
from ros_ood_perception.obstacles import Obstacle
from ros_ood_perception.perception import FramePerception
from ros_ood_perception.regions import drivable_mask

FREE, ANOMALOUS, UNKNOWN = 0, 100, -1
"""As in `nav_msgs/OccupancyGrid`."""
EDGE_COLUMNS = 128
MAX_CELLS = 4_000_000


@dataclass(frozen=True)
class GridSettings:
    """A rectangle of the vehicle's frame in square cells.

    Attributes:
        resolution_m: side of a cell.
        from_x_m, to_x_m, from_y_m, to_y_m: the rectangle, metres.
    """

    resolution_m: float = 0.2
    from_x_m: float = 0.0
    to_x_m: float = 40.0
    from_y_m: float = -10.0
    to_y_m: float = 10.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.resolution_m) and self.resolution_m > 0):
            raise ValueError(f"resolution_m is {self.resolution_m}; it must be positive")
        for axis, begin, end in (("x", self.from_x_m, self.to_x_m), ("y", self.from_y_m, self.to_y_m)):
            if not (math.isfinite(begin) and math.isfinite(end) and begin + self.resolution_m <= end):
                raise ValueError(f"the grid goes from {begin} to {end} m in {axis}; it must hold a cell at least")
        if self.width * self.height > MAX_CELLS:
            raise ValueError(
                f"the grid has {self.width} x {self.height} cells; at most {MAX_CELLS}: larger cells or a smaller grid"
            )

    @property
    def width(self) -> int:
        """Cells along x."""
        return round((self.to_x_m - self.from_x_m) / self.resolution_m)

    @property
    def height(self) -> int:
        """Cells along y."""
        return round((self.to_y_m - self.from_y_m) / self.resolution_m)


class GroundMap:
    """The ground before one camera. What depends on its geometry alone is computed once, here.

    Ground is free where its pixel has a drivable class and a score below `hysteresis` times the threshold. What an
    obstacle hides, what is too far and what is not in the picture is unknown.

    Args:
        ground: the camera's geometry.
        engine_size: (h, w) of `FramePerception.engine_anomaly_score`.
        drivable_ids: class ids of ground to drive on.
        hysteresis: as in `RegionSettings`.
        ego_mask: (H, W) bool of any size, True where the camera sees the own vehicle; None: nowhere.
        grid: where the cells are.
    """

    def __init__(
        self,
        ground: GroundProjection,
        engine_size: tuple[int, int],
        drivable_ids: frozenset[int],
        hysteresis: float,
        ego_mask: NDArray[np.bool_] | None = None,
        grid: GridSettings | None = None,
    ) -> None:
        self.ground = ground
        self.grid_settings = grid or GridSettings()
        self._drivable_ids = drivable_ids
        self._hysteresis = hysteresis
        height, width = engine_size
        self._ego = np.zeros(engine_size, np.uint8)
        if ego_mask is not None:
            self._ego = cv2.resize(ego_mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        scale = (ground.camera.width / width, ground.camera.height / height)
        self._cell_pixels = self._pixels_of_cells(scale, engine_size)
        # The upper edge of every pixel of some columns, from the frame's lower edge to the horizon.
        self._columns = np.unique(np.linspace(0, width - 1, EDGE_COLUMNS).round().astype(int))
        x, y = np.meshgrid(self._columns, np.arange(height)[::-1])
        pixels = np.stack([(x.ravel() + 0.5) * scale[0] - 0.5, y.ravel() * scale[1] - 0.5], axis=1)
        self._edges = ground.place(pixels).reshape(*x.shape, 3)

    def grid(self, result: FramePerception, obstacles: Sequence[Obstacle]) -> NDArray[np.int8]:
        """(height, width) int8 of `grid_settings`: row i is y, column j is x; FREE, ANOMALOUS or UNKNOWN.

        Args:
            result: of one frame of this camera.
            obstacles: of the same frame.
        """
        settings = self.grid_settings
        seen = np.append(self._free(result).ravel(), False)  # the pixel of cells that have none
        cells = np.where(seen[self._cell_pixels], np.int8(FREE), np.int8(UNKNOWN))
        points = obstacle_points(obstacles, 0.0)
        column = np.floor((points["x"] - settings.from_x_m) / settings.resolution_m).astype(int)
        row = np.floor((points["y"] - settings.from_y_m) / settings.resolution_m).astype(int)
        inside = (column >= 0) & (column < settings.width) & (row >= 0) & (row < settings.height)
        cells[row[inside], column[inside]] = ANOMALOUS
        return cells

    def free_edge(self, result: FramePerception) -> NDArray[np.float64]:
        """Places (N, 3) in the vehicle's frame up to which the ground is free, seen from the vehicle.

        One for each of `EDGE_COLUMNS` columns of the frame, from its lower edge (or the ego mask) upwards, as far as
        the ground is free and can be placed; none where it is not free at the lower edge already.
        """
        columns = self._free(result)[::-1, self._columns]
        ego = self._ego[::-1, self._columns] > 0
        # The own vehicle hides the ground at the lower edge; above it the ground goes on.
        begin = np.logical_and.accumulate(ego, axis=0)
        steps = np.logical_and.accumulate(columns | begin, axis=0)
        steps &= ~begin & np.isfinite(self._edges[..., 0])
        last = len(steps) - 1 - np.argmax(steps[::-1], axis=0)
        found = np.flatnonzero(steps.any(axis=0))
        return self._edges[last[found], found]

    def _free(self, result: FramePerception) -> NDArray[np.bool_]:
        """(h, w) bool at the engine's resolution."""
        low = np.float32(result.anomaly_threshold) * np.float32(self._hysteresis)
        free = drivable_mask(result.engine_semantic, self._drivable_ids) > 0
        return free & (result.engine_anomaly_score < low) & (self._ego == 0)

    def _pixels_of_cells(self, scale: tuple[float, float], engine_size: tuple[int, int]) -> NDArray[np.int64]:
        """(height, width): flat index of the engine's pixel that shows the centre of each cell; h * w for none."""
        settings, (rows, columns) = self.grid_settings, engine_size
        x = settings.from_x_m + (np.arange(settings.width) + 0.5) * settings.resolution_m
        y = settings.from_y_m + (np.arange(settings.height) + 0.5) * settings.resolution_m
        places = np.stack([*(axis.ravel() for axis in np.meshgrid(x, y)), np.zeros(x.size * y.size)], axis=1)
        places[:, 2] = self.ground.ground_z_m
        pixels = self.ground.pixels(places)
        pixels[self.ground.range_m(places) > self.ground.max_range_m] = np.nan
        seen = np.isfinite(pixels[:, 0])
        indices = np.full(len(places), rows * columns)
        at = np.floor((pixels[seen] + 0.5) / scale).astype(int)
        indices[seen] = np.minimum(at[:, 1], rows - 1) * columns + np.minimum(at[:, 0], columns - 1)
        return indices.reshape(settings.height, settings.width)
