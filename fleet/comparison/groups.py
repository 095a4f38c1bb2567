"""Groups of frames: by recording, by place, and by hour of the day."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fleet.comparison.changes import Sums

RECORDING, PLACE, HOUR = KINDS = ("recording", "place", "hour")
POSITIONS, MAP, NOWHERE = PLACE_KINDS = ("latitude", "map", "none")
METRES_A_DEGREE = 111_320.0
"""Of latitude, and of longitude on the equator."""
FIRST_REAL_NS = 100_000_000 * 1_000_000_000
"""1973: earlier times are those of a clock that was not set, or of a folder of images."""
HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Cells:
    """How frames are put into places.

    Attributes:
        kind: `POSITIONS`: by latitude and longitude; `MAP`: by x and y, where all recordings have one fixed frame;
            `NOWHERE`: not.
        side_m: of a square cell, metres.
    """

    kind: str = POSITIONS
    side_m: float = 100.0

    def name(self, latitude: float | None, longitude: float | None, x: float | None, y: float | None) -> str | None:
        """The place of a frame, None if it is unknown.

        >>> Cells("map", 50.0).name(None, None, 120.0, -1.0)
        'x 100 to 150 m, y -50 to 0 m'
        """
        if self.kind == MAP and x is not None and y is not None:
            left, lower = (math.floor(value / self.side_m) * self.side_m for value in (x, y))
            return f"x {left:g} to {left + self.side_m:g} m, y {lower:g} to {lower + self.side_m:g} m"
        if self.kind == POSITIONS and latitude is not None and longitude is not None:
            tall = self.side_m / METRES_A_DEGREE
            north = (math.floor(latitude / tall) + 0.5) * tall
            wide = tall / max(math.cos(math.radians(north)), 1e-6)
            east = (math.floor(longitude / wide) + 0.5) * wide
            return f"{north:.5f}, {east:.5f}"
        return None


def hour_name(time_ns: int, offset_h: float) -> str | None:
    """The hour of the day at a time since 1970, `offset_h` after UTC; None for a clock that was not set.

    >>> hour_name(1_700_000_000_000_000_000, 1.0)
    '23:00 to 24:00'
    """
    if time_ns < FIRST_REAL_NS:
        return None
    hour = (time_ns + round(offset_h * HOUR_NS)) // HOUR_NS % 24
    return f"{hour:02d}:00 to {hour + 1:02d}:00"


@dataclass
class GroupSums:
    """The sums of all frames, and of each group.

    Attributes:
        classes: number of classes.
        everything: of all frames.
        groups: kind and name to its sums.
        without: kind to the number of frames that are in no group of it.
    """

    classes: int
    cells: Cells
    offset_h: float = 0.0
    groups: dict[tuple[str, str], Sums] = field(default_factory=dict)
    without: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def __post_init__(self) -> None:
        self.everything = Sums(self.classes)

    def add(self, rows: pa.Table) -> None:
        """Add rows of the table of changes."""
        self.everything.add(rows)
        for kind in KINDS:
            members: dict[str | None, list[int]] = {}
            for index, name in enumerate(self._names(kind, rows)):
                members.setdefault(name, []).append(index)
            self.without[kind] += len(members.pop(None, ()))
            for name, indices in members.items():
                assert name is not None
                group = self.groups.setdefault((kind, name), Sums(self.classes))
                group.add(rows.take(pa.array(indices, pa.int64())))

    def _names(self, kind: str, rows: pa.Table) -> Iterator[str | None]:
        if kind == RECORDING:
            yield from rows["recording"].to_pylist()
        elif kind == HOUR:
            yield from (hour_name(time_ns, self.offset_h) for time_ns in rows["time_ns"].to_pylist())
        else:
            columns: list[list[Any]] = [rows[name].to_pylist() for name in ("latitude", "longitude", "x", "y")]
            yield from (self.cells.name(*place) for place in zip(*columns, strict=True))
