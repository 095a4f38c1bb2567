"""What is known about the unknown objects of a drive, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError

Places = NDArray[np.float64]
"""(N, 2) x, y in the vehicle's frame, metres."""


class ObstacleTruthError(PerceptionError, ValueError):
    """A truth that cannot be used. The message names the file, the field, what was there, and the remedy."""


@dataclass(frozen=True)
class PixelArea:
    """Some pixels of a frame.

    Attributes:
        top, left: row and column of the first pixel of `inside`.
        inside: (h, w) bool, true on the pixels.

    >>> area = PixelArea.of_mask(np.array([[0, 0, 0], [0, 1, 1]]) > 0)
    >>> area.top, area.left, area.count
    (1, 1, 2)
    >>> area.values(np.array([[1, 2, 3], [4, 5, 6]])).tolist()
    [5, 6]
    """

    top: int
    left: int
    inside: NDArray[np.bool_]

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> PixelArea:
        """The pixels (H, W) bool that are true."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return cls(0, 0, np.zeros((0, 0), np.bool_))
        return cls(
            int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.bool_)
        )

    @property
    def count(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.inside))

    def values(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The values (N,) of a picture (H, W) at these pixels; those outside the picture are left out."""
        part = picture[self.top :, self.left :][: self.inside.shape[0], : self.inside.shape[1]]
        return part[self.inside[: part.shape[0], : part.shape[1]]]


@dataclass(frozen=True)
class TrueObject:
    """An unknown object in one frame.

    Attributes:
        id: the same in every frame of the camera.
        kind: "tyre", "pallet", ...
        pixels: that show it; empty where it is hidden. None: not known.
        footprint: (F, 2) corners of its convex outline on the ground, or one place; None: not known.
        range_m: from the point below the camera to the nearest point of the footprint; None: not known.
        height_m: of the object; None: not known.
    """

    id: str
    kind: str
    pixels: PixelArea | None = None
    footprint: Places | None = None
    range_m: float | None = None
    height_m: float | None = None


@dataclass(frozen=True)
class TrueFrame:
    """The unknown objects of a frame: all that it shows."""

    objects: tuple[TrueObject, ...]


@dataclass(frozen=True)
class LabelledClasses:
    """The true classes of a frame.

    Attributes:
        ids: (H, W) uint8.
        names: of the classes by id; a pixel with another id is void.
    """

    ids: NDArray[np.uint8]
    names: tuple[str, ...]


class ObstacleTruth(Protocol):
    """The truth of a drive.

    Attributes:
        path: of its file, for messages.
    """

    path: Path

    def frame(self, camera: str, stamp_ns: int, size: tuple[int, int]) -> TrueFrame | None:
        """The objects of a frame; None where the truth says nothing about it.

        Args:
            camera: name of the camera in the replay; empty if it has one camera without a name.
            stamp_ns: the frame's stamp, nanoseconds.
            size: height and width of the frame, pixels.

        Raises:
            ObstacleTruthError: the truth does not fit the frame.
        """
        ...

    def camera_xy(self, camera: str) -> tuple[float, float]:
        """The point below the camera in the vehicle's frame, metres: the origin of ranges and bearings."""
        ...

    def frame_count(self) -> int | None:
        """Number of frames that the truth knows; None: it knows any."""
        ...

    def classes(self, camera: str, stamp_ns: int) -> LabelledClasses | None:
        """The labels of a frame; None where there are none."""
        ...


class NothingUnknown:
    """The truth of a recording in which no unknown object lies; see `ObstacleTruth`. Every obstacle is false."""

    path = Path("nothing unknown")

    def frame(self, camera: str, stamp_ns: int, size: tuple[int, int]) -> TrueFrame:
        """No object, in any frame."""
        return TrueFrame(())

    def camera_xy(self, camera: str) -> tuple[float, float]:
        """The origin. It is used for ranges in the list of false obstacles only."""
        return (0.0, 0.0)

    def frame_count(self) -> None:
        """Any number of frames."""

    def classes(self, camera: str, stamp_ns: int) -> None:
        """No labels."""


def range_and_bearing(places: Places, camera_xy: tuple[float, float]) -> tuple[Places, Places]:
    """Ranges (N,), metres, and bearings (N,), radians, 0 ahead and positive to the left, of places (N, 2)."""
    x, y = (np.asarray(places, np.float64).reshape(-1, 2) - camera_xy).T
    return np.hypot(x, y), np.arctan2(y, x)


def footprint_range_m(footprint: Places, camera_xy: tuple[float, float]) -> float:
    """Distance from the point below the camera to the nearest point of a footprint (F, 2); 0 inside.

    >>> footprint_range_m(np.array([[10.0, -1.0], [10.0, 1.0], [11.0, 1.0], [11.0, -1.0]]), (2.0, 0.0))
    8.0
    """
    return outside_m(np.array(camera_xy), footprint)


def outside_m(place: Places, footprint: Places) -> float:
    """Distance of a place (2,) from a footprint (F, 2), metres; 0 inside.

    >>> outside_m(np.array([3.0, 4.0]), np.array([[0.0, 0.0]]))
    5.0
    """
    footprint = np.asarray(footprint, np.float64).reshape(-1, 2)
    if len(footprint) < 3:
        return _from_segment_m(place, footprint[0], footprint[-1])
    outline = footprint.astype(np.float32)[:, None]
    return max(-float(cv2.pointPolygonTest(outline, (float(place[0]), float(place[1])), True)), 0.0)


def _from_segment_m(place: Places, begin: Places, end: Places) -> float:
    along = end - begin
    length = float(along @ along)
    share = min(max(float((place - begin) @ along) / length, 0.0), 1.0) if length else 0.0
    return math.hypot(*(place - begin - share * along))
