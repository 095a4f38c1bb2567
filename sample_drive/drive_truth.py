"""Reads the truth of a sample drive from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.image_file import ImageFileError, read_label_file
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from sample_drive.ground_truth import (
    ANOMALY_FOLDER,
    FORMAT,
    INSTANCE_FOLDER,
    LABEL_FOLDER,
    TRUTH_FILE,
    VERSION,
    TrueObstacle,
)


class DriveTruthError(PerceptionError, ValueError):
    """A folder that is not a complete sample drive. The message names the file, and what to do."""


@dataclass(frozen=True)
class DriveTruth:
    """One drive.

    Attributes:
        folder: that holds labels and bag.
        obstacles: stamp in nanoseconds to the unknown objects ahead, in `base_footprint`: `base_link` of the vehicle at
            rest.
        camera_xy: the point below the camera in that frame, metres.
    """

    folder: Path
    obstacles: dict[int, tuple[TrueObstacle, ...]]
    camera_xy: tuple[float, float]

    @property
    def bag(self) -> Path:
        """The bag of the drive."""
        return self.folder / BAG_FOLDER

    def anomaly(self, stamp_ns: int) -> NDArray[np.uint8] | None:
        """(H, W) uint8, 1 on unknown objects; None where the drive has no such frame.

        Raises:
            DriveTruthError: its file is not a mask.
        """
        return self._mask(self.folder / ANOMALY_FOLDER / f"{stamp_ns}.png")

    def labels(self, stamp_ns: int) -> NDArray[np.uint8] | None:
        """(H, W) uint8, ids of `CLASSES`, `VOID_ID` on unknown objects; None where the drive has no such frame.

        Raises:
            DriveTruthError: its file is not a mask.
        """
        return self._mask(self.folder / LABEL_FOLDER / f"{stamp_ns}.png")

    def _mask(self, path: Path) -> NDArray[np.uint8] | None:
        if not path.exists():
            return None
        try:
            mask = read_label_file(path)
        except ImageFileError as error:
            raise DriveTruthError(f"{error}; render the drive again") from error
        if mask.dtype != np.uint8:
            raise DriveTruthError(f"{path}: has 16 bits a pixel; render the drive again")
        return mask.astype(np.uint8, copy=False)

    def instance_file(self, stamp_ns: int) -> Path:
        """The file that says which unknown object each pixel of a frame shows."""
        return self.folder / INSTANCE_FOLDER / f"{stamp_ns}.png"

    def instances(self, stamp_ns: int) -> NDArray[np.uint16]:
        """(H, W) uint16: the id of the unknown object that is seen, 0 elsewhere.

        Raises:
            DriveTruthError: the file is not there, as in drives of an earlier version, or is no such picture.
        """
        path = self.instance_file(stamp_ns)
        if not path.is_file():
            raise DriveTruthError(f"{path}: no such file; an earlier version rendered the drive: render it again")
        try:
            return read_label_file(path).astype(np.uint16, copy=False)
        except ImageFileError as error:
            raise DriveTruthError(f"{error}; render the drive again") from error


def is_drive(path: Path) -> bool:
    """Whether a folder holds a sample drive with its bag."""
    return (path / TRUTH_FILE).is_file() and (path / BAG_FOLDER).is_dir()


def read_truth(folder: Path) -> DriveTruth:
    """Read `ground_truth.json` of a folder with one drive.

    Raises:
        DriveTruthError: it cannot be read, is of another version, or holds several drives.
    """
    path = folder / TRUTH_FILE
    try:
        facts = json.loads(path.read_text("utf-8"))
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            raise DriveTruthError(
                f"{path}: is '{facts['format']}' version {facts['version']}; this is for '{FORMAT}' version {VERSION}: "
                "render the drive again"
            )
        if len(facts["drives"]) != 1:
            raise DriveTruthError(f"{path}: holds {len(facts['drives'])} drives; a bag goes with one")
        [drive] = facts["drives"]
        x, y, _ = drive["mounting"]["translation"]
        obstacles = {
            frame["stamp_ns"]: tuple(
                TrueObstacle(
                    **{
                        **obstacle,
                        "position": tuple(obstacle["position"]),
                        "footprint": tuple((u, v) for u, v in obstacle["footprint"]),
                    }
                )
                for obstacle in frame["obstacles"]
            )
            for frame in drive["frames"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DriveTruthError):
            raise
        raise DriveTruthError(f"{path}: cannot be read ({error!r}); render the drive again") from error
    return DriveTruth(folder, obstacles, (x, y))
