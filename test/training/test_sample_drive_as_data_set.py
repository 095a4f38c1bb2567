"""What the sample drive's page says: a folder of rendered frames is a data set, to train on and to measure with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sample_drive.drive import DriveSettings, SampleDrive
from sample_drive.frame_folder import FrameFolder
from sample_drive.ground_truth import CLASSES, VOID_ID, DriveFrame
from training.data.label_set import IGNORE
from training.data.registry import open_data_set, open_training_frames


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[DriveFrame]]:
    """A folder with the split `train`, and the frames in it."""
    root = tmp_path_factory.mktemp("streets")
    drive = SampleDrive(DriveSettings(seed=1, seconds=8, rate_hz=0.5, height=120, width=160))
    frames = list(drive.frames(1))
    folder = FrameFolder(root / "train")
    folder.begin(drive)
    for frame in frames:
        folder.write(frame)
    folder.finish()
    assert any(frame.anomaly.any() for frame in frames)
    return root, frames


@pytest.mark.parametrize("name", ["sample_drive", "camvid"])
def test_images_and_labels_are_frames_to_train_on(name: str, rendered: tuple[Path, list[DriveFrame]]) -> None:
    root, frames = rendered
    read = open_training_frames(name, root, "train")
    assert [known.name for known in read.classes] == list(CLASSES)
    for found, frame in zip(read, frames, strict=True):
        assert found.name == str(frame.stamp_ns)
        np.testing.assert_array_equal(found.image, frame.image)
        np.testing.assert_array_equal(found.labels, np.where(frame.labels == VOID_ID, IGNORE, frame.labels))


@pytest.mark.parametrize("name", ["sample_drive_test", "images_and_masks"])
def test_unknown_objects_are_the_anomalies_to_measure_with(name: str, rendered: tuple[Path, list[DriveFrame]]) -> None:
    root, frames = rendered
    read = open_data_set(name, root / "train")
    assert read.has_anomalies
    for found, frame in zip(read, frames, strict=True):
        np.testing.assert_array_equal(found.image, frame.image)
        np.testing.assert_array_equal(found.anomaly, frame.anomaly)
