"""The truth of a sample drive, with each object's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sample_drive.drive_truth import DriveTruth, read_truth
from sample_drive.ground_truth import CLASSES
from training.metrics.obstacles.truth import LabelledClasses, ObstacleTruthError, PixelArea, TrueFrame, TrueObject

FURTHER_OBJECT = "object beyond the list"
"""Kind of an object that a frame shows and the drive's list, which ends at 100 m, lacks."""


class DriveObjects:
    """See `ObstacleTruth`. A sample drive has one camera, so names of cameras are ignored.

    Args:
        folder: of the drive, with `ground_truth.json` and `instances/`.

    Raises:
        DriveTruthError: it is not a complete drive.
    """

    def __init__(self, folder: Path) -> None:
        self._drive: DriveTruth = read_truth(folder)
        self.path = folder

    def frame(self, camera: str, stamp_ns: int, size: tuple[int, int]) -> TrueFrame | None:
        """See `ObstacleTruth.frame`."""
        listed = self._drive.obstacles.get(stamp_ns)
        if listed is None:
            return None
        instances = self._drive.instances(stamp_ns)
        if instances.shape != tuple(size):
            raise ObstacleTruthError(
                f"{self._drive.instance_file(stamp_ns)}: is {instances.shape}, and the frame is {tuple(size)} (height, "
                "width); measure a replay of this drive's own bag"
            )
        objects = [
            TrueObject(
                id=str(known.id),
                kind=known.kind,
                pixels=PixelArea.of_mask(instances == known.id),
                footprint=np.array(known.footprint, np.float64),
                range_m=known.range_m,
                height_m=known.height_m,
            )
            for known in listed
        ]
        further = set(np.unique(instances).tolist()) - {0, *(known.id for known in listed)}
        objects += [
            TrueObject(str(number), FURTHER_OBJECT, PixelArea.of_mask(instances == number), range_m=float("inf"))
            for number in sorted(further)
        ]
        return TrueFrame(tuple(objects))

    def camera_xy(self, camera: str) -> tuple[float, float]:
        """See `ObstacleTruth.camera_xy`."""
        return self._drive.camera_xy

    def frame_count(self) -> int:
        """See `ObstacleTruth.frame_count`."""
        return len(self._drive.obstacles)

    def classes(self, camera: str, stamp_ns: int) -> LabelledClasses | None:
        """See `ObstacleTruth.classes`."""
        ids = self._drive.labels(stamp_ns)
        return None if ids is None else LabelledClasses(ids, CLASSES)
