"""Rendered sample drives (`python -m sample_drive --frames`): streets of known classes to train on,
and the same kind of streets with unknown objects to measure with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ros_ood_perception.camera.image_file import images_in
from sample_drive.ground_truth import VOID_ID
from training.data.label_set import CAMVID, IGNORE
from training.data.labelled_frames import ANOMALY, FramePaths, LabelledFrames, inliers

SOURCE = "python -m sample_drive FOLDER/SPLIT --frames (docs/sample_drive.md)"


class SampleDrive(LabelledFrames):
    """Drives rendered with `--no-unknown`: `SPLIT/images/*.png` and `SPLIT/labels/*.png` with CamVid's ids."""

    title = "sample drives"
    terms = "Apache-2.0"
    source = SOURCE
    classes = CAMVID
    splits: ClassVar[tuple[str, ...]] = ("val", "train")
    label_map = {i: i for i in range(VOID_ID)} | {VOID_ID: IGNORE}
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        root = Path(folder) if split is None else Path(folder) / split
        images, labels = (self.existing(root / part) for part in ("images", "labels"))
        super().__init__(root, (FramePaths(path.stem, path, labels / f"{path.stem}.png") for path in images_in(images)))


class SampleDriveTest(SampleDrive):
    """Drives with unknown objects: both the classes and the anomalies are labelled."""

    title = "sample drives with unknown objects"
    splits = ("test",)
    anomaly_map = SampleDrive.anomaly_map | {VOID_ID: ANOMALY}
