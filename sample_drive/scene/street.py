"""The course of the street: a winding centre line with side streets, on flat ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sample_drive.ray_casting import compiled

STEP_M = 0.5
HALF_ROAD_M = 5.6
LANE_M = 3.4
PAVEMENT_M = 3.0
STOREY_M = 3.1
"""Height of a storey of the houses."""
CORNER_RADIUS_M = 4.0
GRID_CELL_M = 1.0
MARGIN_M = 90.0
LEAST_RADIUS_M = 75.0


class StreetCoordinates(NamedTuple):
    """For the kernels: coordinates along and across the street of each place on the ground.

    Attributes:
        along, across: (X, Y) float64 metres at the corners of a grid; across is positive to the left.
        origin: (2,) x and y of the first corner.
        junctions: (J, 4) place along the street, half width, 1 if there is one on the left, 1 on the right.
        crossings: (C,) places along the street of zebra crossings.
    """

    along: NDArray[np.float64]
    across: NDArray[np.float64]
    origin: NDArray[np.float64]
    junctions: NDArray[np.float64]
    crossings: NDArray[np.float64]


@dataclass(frozen=True)
class Street:
    """A centre line x, y, heading at every `STEP_M`, beginning at (0, 0).

    Attributes:
        x, y, heading: (S,) metres and radians.
        junctions: (J, 4) as in `StreetCoordinates`.
        crossings: (C,) as in `StreetCoordinates`.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    heading: NDArray[np.float64]
    junctions: NDArray[np.float64]
    crossings: NDArray[np.float64]

    @classmethod
    def winding(cls, length_m: float, generator: np.random.Generator) -> Street:
        """A street of that length with bends of at least `LEAST_RADIUS_M`, a junction every 60 to 110 m."""
        s = np.arange(0.0, length_m + STEP_M, STEP_M)
        waves = [(generator.uniform(90, 260), generator.uniform(0, 2 * math.pi)) for _ in range(3)]
        curvature = sum(np.sin(2 * math.pi * s / period + phase) for period, phase in waves)
        # The street begins straight: the first picture shows it as it is.
        curvature = curvature / 3 / LEAST_RADIUS_M * np.clip(s / 60 - 0.3, 0, 1)
        heading = np.cumsum(curvature) * STEP_M
        heading -= heading[0]
        x = np.cumsum(np.cos(heading)) * STEP_M
        y = np.cumsum(np.sin(heading)) * STEP_M
        junctions, crossings, at = [], [], generator.uniform(38, 60)
        while at < length_m - 10:
            sides = int(generator.integers(1, 4))
            junctions.append((at, generator.uniform(3.2, 4.2), sides & 1, sides >> 1))
            if generator.random() < 0.7:
                crossings.append(at - 12.0)
            at += generator.uniform(60, 110)
        return cls(x - x[0], y - y[0], heading, np.array(junctions).reshape(-1, 4), np.array(crossings, np.float64))

    @property
    def length_m(self) -> float:
        """From the first to the last place along."""
        return (len(self.x) - 1) * STEP_M

    def place(self, along: ArrayLike, across: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y, metres, of places along and across (positive to the left) the street."""
        s = np.asarray(along, np.float64)
        at = np.arange(len(self.x)) * STEP_M
        heading = self.heading_at(s)
        offset = np.asarray(across, np.float64)
        return np.interp(s, at, self.x) - np.sin(heading) * offset, np.interp(s, at, self.y) + np.cos(heading) * offset

    def heading_at(self, along: ArrayLike) -> NDArray[np.float64]:
        """Radians from the x axis, counter-clockwise."""
        return np.interp(np.asarray(along, np.float64), np.arange(len(self.x)) * STEP_M, self.heading)

    def near_junction(self, along: float, side: int, distance_m: float) -> bool:
        """Whether a side street opens on that side (1 left, -1 right, 0 either) within a distance along."""
        for at, half_width, left, right in self.junctions.tolist():
            opens = (left and side >= 0) or (right and side <= 0)
            if opens and abs(at - along) < half_width + distance_m:
                return True
        return False

    @cached_property
    def ground_map(self) -> StreetCoordinates:
        """The nearest place of the centre line for every corner of a grid; computed once."""
        low = np.array([self.x.min(), self.y.min()]) - MARGIN_M
        size = np.ceil((np.array([self.x.max(), self.y.max()]) + MARGIN_M - low) / GRID_CELL_M).astype(int)
        along, across = _nearest_on_line(self.x, self.y, self.heading, low, int(size[0]), int(size[1]))
        return StreetCoordinates(along, across, low, self.junctions, self.crossings)


@compiled
def _nearest_on_line(x, y, heading, low, columns, rows):  # type: ignore[no-untyped-def]
    along = np.empty((columns, rows))
    across = np.empty((columns, rows))
    for column in range(columns):
        for row in range(rows):
            px = low[0] + column * GRID_CELL_M
            py = low[1] + row * GRID_CELL_M
            best, nearest = 1e30, 0
            for k in range(0, len(x), 8):
                square = (x[k] - px) ** 2 + (y[k] - py) ** 2
                if square < best:
                    best, nearest = square, k
            begin, end = max(nearest - 8, 0), min(nearest + 9, len(x))
            for k in range(begin, end):
                square = (x[k] - px) ** 2 + (y[k] - py) ** 2
                if square < best:
                    best, nearest = square, k
            cosine, sine = math.cos(heading[nearest]), math.sin(heading[nearest])
            ahead = (px - x[nearest]) * cosine + (py - y[nearest]) * sine
            along[column, row] = nearest * STEP_M + ahead
            across[column, row] = (py - y[nearest]) * cosine - (px - x[nearest]) * sine
    return along, across


@compiled
def street_coordinates(x, y, ground):  # type: ignore[no-untyped-def]
    """Along and across the street, metres, of a place on the ground."""
    fx = (x - ground.origin[0]) / GRID_CELL_M
    fy = (y - ground.origin[1]) / GRID_CELL_M
    columns, rows = ground.along.shape
    fx = min(max(fx, 0.0), columns - 1.001)
    fy = min(max(fy, 0.0), rows - 1.001)
    i, j = int(fx), int(fy)
    fx -= i
    fy -= j
    a, c = ground.along, ground.across
    low = a[i, j] * (1 - fy) + a[i, j + 1] * fy
    high = a[i + 1, j] * (1 - fy) + a[i + 1, j + 1] * fy
    s = low * (1 - fx) + high * fx
    low = c[i, j] * (1 - fy) + c[i, j + 1] * fy
    high = c[i + 1, j] * (1 - fy) + c[i + 1, j + 1] * fy
    return s, low * (1 - fx) + high * fx


@compiled
def distance_to_road(s, d, ground):  # type: ignore[no-untyped-def]
    """Metres from the road's edge, negative on the road (the street and its side streets); and, as negative metres
    inside it, the side street alone."""
    distance = abs(d) - HALF_ROAD_M
    nearest_side = 1e9
    for j in range(len(ground.junctions)):
        away = abs(s - ground.junctions[j, 0])
        if away > 30.0:
            continue
        side = away - ground.junctions[j, 1]
        if d > 0.0 and ground.junctions[j, 2] < 0.5:
            continue
        if d <= 0.0 and ground.junctions[j, 3] < 0.5:
            continue
        u = max(CORNER_RADIUS_M - distance, 0.0)
        v = max(CORNER_RADIUS_M - side, 0.0)
        if min(distance, side) > 0.0:
            distance = max(CORNER_RADIUS_M, min(distance, side)) - math.sqrt(u * u + v * v)
        else:
            distance = min(distance, side)
        nearest_side = min(nearest_side, side)
    return distance, nearest_side
