"""Reads the truth about a recording from a JSON file that a team wrote. docs/measuring.md describes the fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.files.json_files import JsonFileError, read_json
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping, shown
from sample_drive.ground_truth import FORMAT as DRIVE_FORMAT
from sample_drive.ground_truth import TRUTH_FILE
from training.metrics.obstacles.drive_objects import DriveObjects
from training.metrics.obstacles.truth import (
    ObstacleTruth,
    ObstacleTruthError,
    PixelArea,
    TrueFrame,
    TrueObject,
    footprint_range_m,
)

FORMAT, VERSION = "ros_ood_perception/obstacle_truth", 1
"""As the file names them."""
LONGEST_NAME = 100
"""Characters of an id, a kind or a camera's name."""
MOST_CORNERS = 64
LARGEST_M = 10_000.0
LARGEST_PIXEL = 1e6


@dataclass(frozen=True)
class TruthCamera:
    """A camera of the file.

    Attributes:
        name: as in the replay; empty for the only camera.
        position: x, y of the point below the camera in the vehicle's frame, metres.
    """

    name: str = ""
    position: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_name("name", self.name, may_be_empty=True)
        _check_metres("position", self.position)


@dataclass(frozen=True)
class FileObject:
    """An object in one frame, as the file has it.

    Attributes:
        id: the same in every frame of the camera.
        kind: "pallet", "tyre", ...
        box: left, top, width and height of the object in the picture, pixels; the first pixel's corner is (0, 0).
        footprint: x, y of the corners of its convex outline on the ground in the vehicle's frame, metres; one place is
            enough.
        range_m: from the point below the camera. Without it, that of the footprint.
        height_m: of the object.
    """

    id: str
    kind: str
    box: tuple[float, float, float, float] | None = None
    footprint: list[tuple[float, float]] | None = None
    range_m: float | None = None
    height_m: float | None = None

    def __post_init__(self) -> None:
        _check_name("id", self.id)
        _check_name("kind", self.kind)
        if self.box is None and self.footprint is None:
            raise ValueError("has neither 'box' nor 'footprint'; give the object a box in the picture, or its place")
        if self.box is not None:
            _, _, width, height = self.box
            if not (width > 0 and height > 0 and all(abs(value) <= LARGEST_PIXEL for value in self.box)):
                raise ValueError(
                    f"'box' is {shown(self.box)}; it must be left, top, width, height in pixels, not empty"
                )
        if self.footprint is not None:
            if not 1 <= len(self.footprint) <= MOST_CORNERS:
                raise ValueError(f"'footprint' has {len(self.footprint)} places; it must have 1 to {MOST_CORNERS}")
            for place in self.footprint:
                _check_metres("footprint", place)
        if self.footprint is not None and self.range_m is not None:
            raise ValueError("has 'footprint' and 'range_m'; give one of them, as the footprint has the range")
        for name in ("range_m", "height_m"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LARGEST_M:
                raise ValueError(f"'{name}' is {value:g}; it must be from 0 to {LARGEST_M:g} metres")


@dataclass(frozen=True)
class FileFrame:
    """A frame of the file: all unknown objects that it shows. An empty list says that it shows none."""

    stamp_ns: int
    objects: list[FileObject]
    camera: str = ""

    def __post_init__(self) -> None:
        _check_name("camera", self.camera, may_be_empty=True)
        if self.stamp_ns < 0:
            raise ValueError(
                f"'stamp_ns' is {self.stamp_ns}; it must be the stamp of the frame's header in nanoseconds"
            )
        ids = [known.id for known in self.objects]
        twice = next((number for number in ids if ids.count(number) > 1), None)
        if twice is not None:
            raise ValueError(f"'objects' has the id {shown(twice)} twice; an object is in a frame once")


class FileTruth:
    """The truth of a file; see `ObstacleTruth`.

    Raises:
        ObstacleTruthError: not such a file, or a value that cannot be. The message names the field.
        OSError: it cannot be read, with the path.
    """

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        head, frames = _parts(path, data)
        self._cameras: dict[str, tuple[float, float]] = {}
        for number, entry in enumerate(head):
            camera = _read(entry, TruthCamera, f"{path}: cameras[{number}]")
            if camera.name in self._cameras:
                raise ObstacleTruthError(f"{path}: cameras[{number}]: 'name' is {shown(camera.name)} again; keep one")
            self._cameras[camera.name] = camera.position
        self._frames: dict[tuple[str, int], tuple[int, FileFrame]] = {}
        facts: dict[tuple[str, str], tuple[int, FileObject]] = {}
        for number, entry in enumerate(frames):
            where = f"{path}: frames[{number}]"
            frame = _read(entry, FileFrame, where)
            self._check_camera(frame, where)
            key = (frame.camera, frame.stamp_ns)
            if key in self._frames:
                raise ObstacleTruthError(
                    f"{where}: camera {shown(frame.camera)} and stamp_ns {frame.stamp_ns} are those of "
                    f"frames[{self._frames[key][0]}]; put all objects of a frame into one entry"
                )
            self._frames[key] = (number, frame)
            for known in frame.objects:
                _check_same(known, number, facts.setdefault((frame.camera, known.id), (number, known)), where)

    def _check_camera(self, frame: FileFrame, where: str) -> None:
        if self._cameras and frame.camera not in self._cameras:
            raise ObstacleTruthError(
                f"{where}: 'camera' is {shown(frame.camera)}; 'cameras' names {', '.join(map(shown, self._cameras))}"
            )

    def frame(self, camera: str, stamp_ns: int, size: tuple[int, int]) -> TrueFrame | None:
        """See `ObstacleTruth.frame`."""
        number, frame = self._frames.get((camera, stamp_ns), (0, None))
        if frame is None:
            return None
        objects = []
        for index, known in enumerate(frame.objects):
            footprint = None if known.footprint is None else np.array(known.footprint, np.float64)
            range_m = known.range_m if footprint is None else footprint_range_m(footprint, self.camera_xy(camera))
            pixels = None if known.box is None else _box_area(known.box, size)
            if pixels is not None and not pixels.count:
                raise ObstacleTruthError(
                    f"{self.path}: frames[{number}].objects[{index}]: 'box' is {shown(known.box)}, outside the frame "
                    f"of {size[1]} x {size[0]} pixels; boxes are in pixels of the replayed frames"
                )
            objects.append(TrueObject(known.id, known.kind, pixels, footprint, range_m, known.height_m))
        return TrueFrame(tuple(objects))

    def camera_xy(self, camera: str) -> tuple[float, float]:
        """See `ObstacleTruth.camera_xy`. The origin where the file does not say."""
        return self._cameras.get(camera, (0.0, 0.0))

    def frame_count(self) -> int:
        """See `ObstacleTruth.frame_count`."""
        return len(self._frames)

    def classes(self, camera: str, stamp_ns: int) -> None:
        """No labels."""


def open_truth(path: Path) -> ObstacleTruth:
    """The truth of a sample drive (its folder or `ground_truth.json`), or of a file of the format above.

    Raises:
        ObstacleTruthError, DriveTruthError: not such a file, or a value that cannot be. The message names the field.
        OSError: it cannot be read, with the path.
    """
    file = path / TRUTH_FILE if path.is_dir() else path
    try:
        data = read_json(file, strict=True)
    except JsonFileError as error:
        raise ObstacleTruthError(f"{error}; give the {TRUTH_FILE} of a sample drive, or a truth file") from error
    if isinstance(data, dict) and data.get("format") == DRIVE_FORMAT:
        return DriveObjects(file.parent)
    return FileTruth(file, data)


def _parts(path: Path, data: Any) -> tuple[list[Any], list[Any]]:
    """The lists `cameras` and `frames` of the file."""
    if not isinstance(data, dict):
        raise ObstacleTruthError(
            f"{path}: must be a mapping with the keys format, version, frames; found {shown(data)}"
        )
    names = ("format", "version", "cameras", "frames")
    if data.get("format") != FORMAT or data.get("version") != VERSION or isinstance(data.get("version"), bool):
        raise ObstacleTruthError(
            f"{path}: 'format' is {shown(data.get('format'))} and 'version' {shown(data.get('version'))}; they must be "
            f"{FORMAT!r} and {VERSION}"
        )
    unknown = [shown(key) for key in data if key not in names]
    if unknown:
        raise ObstacleTruthError(f"{path}: unknown key(s) {', '.join(unknown)}; the file can have {', '.join(names)}")
    cameras, frames = data.get("cameras", []), data.get("frames")
    for name, value in (("cameras", cameras), ("frames", frames)):
        if not isinstance(value, list):
            raise ObstacleTruthError(f"{path}: '{name}' must be a list, found {shown(value)}")
    if not frames:
        raise ObstacleTruthError(f"{path}: 'frames' is empty; list each frame that was looked at, also without objects")
    return cameras, frames


def _read(entry: Any, schema: type[Any], where: str) -> Any:
    try:
        return from_mapping(entry, schema, where)
    except SchemaError as error:
        raise ObstacleTruthError(str(error)) from error


def _check_name(field: str, text: str, may_be_empty: bool = False) -> None:
    if not (text or may_be_empty) or len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError(f"'{field}' is {shown(text)}; it must be 1 to {LONGEST_NAME} visible characters")


def _check_metres(field: str, place: tuple[float, float]) -> None:
    if not all(math.isfinite(value) and abs(value) <= LARGEST_M for value in place):
        raise ValueError(f"'{field}' has {shown(place)}; it must be x, y in metres, at most {LARGEST_M:g} each")


def _check_same(known: FileObject, number: int, first: tuple[int, FileObject], where: str) -> None:
    """Check that an id stands for one object: kind and height do not change."""
    for field in ("kind", "height_m"):
        here, there = getattr(known, field), getattr(first[1], field)
        if here != there:
            raise ObstacleTruthError(
                f"{where}: the object {shown(known.id)} has the {field} {shown(here)}, and in frames[{first[0]}] "
                f"{shown(there)}; give another object another id"
            )


def _box_area(box: tuple[float, float, float, float], size: tuple[int, int]) -> PixelArea:
    """The pixels of the frame of which the box holds at least half, per side."""
    left, top, width, height = box
    first_row, first_column = max(round(top), 0), max(round(left), 0)
    rows = max(min(round(top + height), size[0]) - first_row, 0)
    columns = max(min(round(left + width), size[1]) - first_column, 0)
    return PixelArea(first_row, first_column, np.ones((rows, columns), np.bool_))
