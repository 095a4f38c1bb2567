"""Free, unknown and anomalous ground of a frame, as a grid and as the edge of the free ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.obstacles.point_cloud import obstacle_points
from ros_ood_perception.obstacles.regions import drivable_mask, growth_threshold
from ros_ood_perception.obstacles.tracks import Obstacle

FREE, ANOMALOUS, UNKNOWN = 0, 100, -1
"""Values of cells, as in `nav_msgs/OccupancyGrid`."""
EDGE_COLUMNS = 1024
"""The most columns of the free edge. A costmap layer clears one ray for each; cells between two rays stay marked."""
COARSE_ROWS = 8
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
    """The ground before one camera. What depends only on the camera's geometry is computed once, in the constructor.

    Ground is free where its pixel has a drivable class and a score from which no region grows (`growth_threshold`).
    Ground that an obstacle hides, that is too far away or outside the picture is unknown.

    Args:
        ground: the camera's geometry.
        engine_size: (h, w) of `FramePerception.engine_anomaly_score`.
        drivable_ids: class ids of drivable ground.
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
        self._scale = (ground.camera.width / width, ground.camera.height / height)
        self._cell_pixels = self._pixels_of_cells(engine_size)
        self._columns = np.unique(np.linspace(0, width - 1, EDGE_COLUMNS).round().astype(int))
        self._bonnet = np.logical_and.accumulate(self._ego[::-1, self._columns] > 0, axis=0)[::-1]
        self._bonnet_rows = height - self._bonnet.sum(axis=0)
        self._highest_rows = self._rows_of_largest_range(height)

    def grid(self, result: FramePerception, obstacles: Sequence[Obstacle]) -> NDArray[np.int8]:
        """(height, width) int8 of `grid_settings`: row i is y, column j is x; FREE, ANOMALOUS or UNKNOWN.

        Args:
            result: results of one frame of this camera.
            obstacles: obstacles of the same frame.
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

        There is one for each column of the engine's output, of at most `EDGE_COLUMNS`. It is found from the lower edge
        of the picture (or the ego mask) upwards, as far as the ground is free and in range. A column that is not free
        at its lower edge has none. The place is the lower edge of the last free pixel, so that it is too near rather
        than on the object behind it.
        """
        blocked = ~self._free(result)[:, self._columns]
        # The own vehicle hides the ground at the lower edge; above it the ground continues.
        blocked &= ~self._bonnet
        height = len(blocked)
        lowest_blocked = np.where(blocked.any(axis=0), height - 1 - np.argmax(blocked[::-1], axis=0), -1)
        row = np.maximum(lowest_blocked + 1, self._highest_rows)
        found = np.flatnonzero(row < self._bonnet_rows)
        places = self._place_lower_edges(self._columns[found], row[found])
        return places[np.isfinite(places[:, 0])]

    def _place_lower_edges(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Places (N, 3) of the lower edges of the engine's pixels; NaN where they are out of range."""
        pixels = np.stack([(columns + 0.5) * self._scale[0] - 0.5, (rows + 1.0) * self._scale[1] - 0.5], axis=1)
        return self.ground.place(pixels)

    def _rows_of_largest_range(self, height: int) -> NDArray[np.int64]:
        """The highest row of each column that can be placed; `height` if none can.

        In coarse steps first: placing every pixel takes a second, and a pose from tf2 may change with every frame.
        """
        highest = np.full(len(self._columns), height)
        coarse = np.arange(height - 1, -1, -COARSE_ROWS)
        for rows in (np.tile(coarse, (len(self._columns), 1)), None):
            if rows is None:
                rows = np.clip(highest[:, None] - np.arange(COARSE_ROWS), 0, height - 1)
            columns = np.repeat(self._columns, rows.shape[1])
            placed = np.isfinite(self._place_lower_edges(columns, rows.ravel())[:, 0]).reshape(rows.shape)
            highest = np.where(placed, rows, height).min(axis=1)
        return highest

    def _free(self, result: FramePerception) -> NDArray[np.bool_]:
        """(h, w) bool at the engine's resolution."""
        low = np.float32(growth_threshold(result.anomaly_threshold, self._hysteresis))
        free = drivable_mask(result.engine_semantic, self._drivable_ids) > 0
        return free & (result.engine_anomaly_score < low) & (self._ego == 0)

    def _pixels_of_cells(self, engine_size: tuple[int, int]) -> NDArray[np.int64]:
        """(height, width): flat index of the engine's pixel that shows the centre of each cell; h * w: none does."""
        settings, (rows, columns) = self.grid_settings, engine_size
        x = settings.from_x_m + (np.arange(settings.width) + 0.5) * settings.resolution_m
        y = settings.from_y_m + (np.arange(settings.height) + 0.5) * settings.resolution_m
        places = np.stack([*(axis.ravel() for axis in np.meshgrid(x, y)), np.zeros(x.size * y.size)], axis=1)
        places[:, 2] = self.ground.ground_z_m
        pixels = self.ground.pixels(places)
        pixels[self.ground.range_m(places) > self.ground.max_range_m] = np.nan
        seen = np.isfinite(pixels[:, 0])
        indices = np.full(len(places), rows * columns)
        at = np.floor((pixels[seen] + 0.5) / self._scale).astype(int)
        indices[seen] = np.minimum(at[:, 1], rows - 1) * columns + np.minimum(at[:, 0], columns - 1)
        return indices.reshape(settings.height, settings.width)
