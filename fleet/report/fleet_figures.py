"""The figures of a fleet's page, summed over the tables a part at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fleet.comparison.groups import FIRST_REAL_NS, MAP, POSITIONS
from fleet.tables.mined import MinedTables
from fleet.tables.schema import FRAMES
from ros_ood_perception.pipeline.fates import PUBLISHED

TIME_BINS = 180
MAP_CELLS = 80
"""Cells of the map along its longer side."""
SHARE_EDGES = np.concatenate([[0.0], np.logspace(-5, 0, 16)])
"""Of the histogram of anomalous road: shares of the frame, one bin for none."""
PEAK_EDGES = np.linspace(0.0, 1.0, 21)
COLUMNS = (
    *("recording", "time_ns", "fate", "obstacles", "doubts", "road_anomaly_share", "road_score_peak"),
    *("latitude", "longitude", "x", "y"),
)

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Extent:
    """From where to where the frames reach: on one axis, in nanoseconds, degrees or metres."""

    least: float
    most: float

    def bins(self, values: Floats, count: int) -> Counts:
        """The bin of each value, 0 to count - 1."""
        span = self.most - self.least
        places = np.zeros(len(values)) if span <= 0 else (values - self.least) / span * count
        return np.clip(places.astype(np.int64), 0, count - 1)


@dataclass
class RecordingSums:
    """Of one recording."""

    frames: int = 0
    obstacles: int = 0
    with_obstacles: int = 0
    anomalous: float = 0.0
    peak: float = 0.0


@dataclass
class FleetFigures:
    """The figures.

    Attributes:
        place: `POSITIONS`, `MAP`, or another word: then there is no map.
        fates: of all frames.
        doubts: kind of doubt about a picture to number of frames.
        recordings: by name; those with frames that have results.
        times: extent of the times, where clocks were set; None: nowhere.
        time_frames, time_obstacle_frames, time_anomalous: (TIME_BINS,), frames, frames with obstacles, and the sum of
            the anomalous shares, over time.
        shares, peaks: histograms over `SHARE_EDGES` and `PEAK_EDGES`.
        east, north: extents of the map; None: no positions.
        map_frames, map_anomalous: (rows, columns), from south to north: frames, and the sum of their anomalous shares;
            None: no positions.
    """

    place: str
    fates: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    recordings: dict[str, RecordingSums] = field(default_factory=dict)
    times: Extent | None = None
    east: Extent | None = None
    north: Extent | None = None
    map_frames: Counts | None = None
    map_anomalous: Floats | None = None
    placed: int = 0

    def __post_init__(self) -> None:
        self.time_frames = np.zeros(TIME_BINS, np.int64)
        self.time_obstacle_frames = np.zeros(TIME_BINS, np.int64)
        self.time_anomalous = np.zeros(TIME_BINS)
        self.shares = np.zeros(len(SHARE_EDGES) - 1, np.int64)
        self.peaks = np.zeros(len(PEAK_EDGES) - 1, np.int64)

    @property
    def position_columns(self) -> tuple[str, str] | None:
        """Names of the columns to the east and to the north."""
        return {POSITIONS: ("longitude", "latitude"), MAP: ("x", "y")}.get(self.place)

    @classmethod
    def of(cls, tables: MinedTables, place: str) -> FleetFigures:
        """Read the tables twice: for the extents, and for the sums.

        Raises:
            TablesError: a table cannot be read.
        """
        figures = cls(place)
        columns = figures.position_columns or ()
        for batch in tables.batches(FRAMES, ("time_ns", *columns)):
            figures._widen(batch)
        if figures.east is not None and figures.north is not None:
            figures.map_frames = np.zeros(map_shape(figures.east, figures.north, place), np.int64)
            figures.map_anomalous = np.zeros(figures.map_frames.shape)
        for batch in tables.batches(FRAMES, COLUMNS):
            figures._add(pa.Table.from_batches([batch]))
        return figures

    def _widen(self, batch: pa.RecordBatch) -> None:
        times = batch["time_ns"].to_numpy(zero_copy_only=False)
        self.times = _wider(self.times, times[times >= FIRST_REAL_NS].astype(np.float64))
        if self.position_columns is not None:
            east, north = (_known(batch[name]) for name in self.position_columns)
            self.east, self.north = _wider(self.east, east), _wider(self.north, north)

    def _add(self, frames: pa.Table) -> None:
        self.fates.update(frames["fate"].to_pylist())
        rows = frames.filter(pc.equal(frames["fate"], PUBLISHED))
        if not len(rows):
            return
        for doubts in rows["doubts"].to_pylist():
            self.doubts.update(doubts or ())
        obstacles = rows["obstacles"].to_numpy().astype(np.int64)
        share = rows["road_anomaly_share"].to_numpy().astype(np.float64)
        peak = pc.fill_null(rows["road_score_peak"], float("nan")).to_numpy().astype(np.float64)
        self.shares += np.histogram(np.minimum(share, 1.0), SHARE_EDGES)[0]
        self.peaks += np.histogram(peak[np.isfinite(peak)], PEAK_EDGES)[0]
        times = rows["time_ns"].to_numpy()
        if self.times is not None:
            real = times >= FIRST_REAL_NS
            place = self.times.bins(times[real].astype(np.float64), TIME_BINS)
            np.add.at(self.time_frames, place, 1)
            np.add.at(self.time_obstacle_frames, place, obstacles[real] > 0)
            np.add.at(self.time_anomalous, place, share[real])
        self._add_recordings(rows["recording"].to_pylist(), obstacles, share, peak)
        self._add_places(rows, share)

    def _add_recordings(self, names: list[str], obstacles: Counts, share: Floats, peak: Floats) -> None:
        of = np.array(names)
        for name in dict.fromkeys(names):
            own = of == name
            sums = self.recordings.setdefault(name, RecordingSums())
            sums.frames += int(np.count_nonzero(own))
            sums.obstacles += int(obstacles[own].sum())
            sums.with_obstacles += int(np.count_nonzero(obstacles[own]))
            sums.anomalous += float(share[own].sum())
            finite = peak[own][np.isfinite(peak[own])]
            sums.peak = max(sums.peak, float(finite.max()) if len(finite) else 0.0)

    def _add_places(self, rows: pa.Table, share: Floats) -> None:
        if self.map_frames is None or self.map_anomalous is None or self.position_columns is None:
            return
        assert self.east is not None
        assert self.north is not None
        east, north = (pc.fill_null(rows[name], float("nan")).to_numpy() for name in self.position_columns)
        known = np.isfinite(east) & np.isfinite(north)
        self.placed += int(np.count_nonzero(known))
        height, width = self.map_frames.shape
        place = self.north.bins(north[known], height), self.east.bins(east[known], width)
        np.add.at(self.map_frames, place, 1)
        np.add.at(self.map_anomalous, place, share[known])


def map_shape(east: Extent, north: Extent, place: str) -> tuple[int, int]:
    """Rows and columns of a map with square cells, `MAP_CELLS` along the longer side."""
    wide, tall = east.most - east.least, north.most - north.least
    if place == POSITIONS:
        wide *= max(float(np.cos(np.radians((north.least + north.most) / 2))), 0.01)
    longer = max(wide, tall)
    if longer <= 0:
        return 1, 1
    return tuple(max(round(MAP_CELLS * side / longer), 1) for side in (tall, wide))  # type: ignore[return-value]


def _known(column: pa.Array) -> Floats:
    values = pc.drop_null(column).to_numpy(zero_copy_only=False).astype(np.float64)
    return values[np.isfinite(values)]


def _wider(extent: Extent | None, values: Floats) -> Extent | None:
    if not len(values):
        return extent
    least, most = float(values.min()), float(values.max())
    return Extent(least, most) if extent is None else Extent(min(extent.least, least), max(extent.most, most))
