"""Writes a drive as files: images and labels in CamVid's layout, masks of the unknown, and `ground_truth.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.atomic_files import naming, sync_all, write_file
from ros_ood_perception.files.output_folder import OutputFolder
from sample_drive.drive import SampleDrive
from sample_drive.ground_truth import (
    ANOMALY_FOLDER,
    CLASSES,
    FORMAT,
    IMAGE_FOLDER,
    INSTANCE_FOLDER,
    LABEL_FOLDER,
    TRUTH_FILE,
    VERSION,
    VOID_ID,
    DriveFrame,
)

PROGRAM = "sample_drive"
COMPRESSION = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class FrameFolder:
    """Writes frames below a folder. Several drives can be written into one folder, as their names differ.

    `images/STAMP.png` (RGB), `labels/STAMP.png` (class ids, 11 where no class is right), `labels_masks/STAMP.png` (1 on
    unknown objects, 0 elsewhere) and `instances/STAMP.png` (16 bits: id of the unknown object, 0 elsewhere). The first
    two are CamVid's layout, the first and the third that of `images_and_masks`.

    Raises:
        FileExistsError: the folder holds frames already.
        OutputFolderError: the folder is another program's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parts = [folder / part for part in (IMAGE_FOLDER, LABEL_FOLDER, ANOMALY_FOLDER, INSTANCE_FOLDER)]
        # Frames of an earlier run would be trained on, but are not in the new ground_truth.json.
        used = [p for p in (*parts, folder / TRUTH_FILE) if p.is_file() or (p.is_dir() and any(p.iterdir()))]
        if used:
            raise FileExistsError(f"{used[0]}: exists already; give another folder, or remove it")
        self._output = OutputFolder.join(folder, PROGRAM)
        for part in parts:
            with naming(part):
                part.mkdir(exist_ok=True)
        self._drives: list[dict[str, Any]] = []

    def begin(self, drive: SampleDrive) -> None:
        """Begin a drive, to which the following frames belong."""
        self._drives.append(drive_facts(drive))

    def write(self, frame: DriveFrame) -> None:
        """Write a frame.

        Raises:
            OSError: a file cannot be written, with its path.
        """
        name = f"{frame.stamp_ns}.png"
        self._write_png(f"{IMAGE_FOLDER}/{name}", np.ascontiguousarray(frame.image[..., ::-1]))
        self._write_png(f"{LABEL_FOLDER}/{name}", frame.labels)
        self._write_png(f"{ANOMALY_FOLDER}/{name}", frame.anomaly.astype(np.uint8))
        self._write_png(f"{INSTANCE_FOLDER}/{name}", frame.instances)
        self._drives[-1]["frames"].append(frame_facts(frame, name))

    def finish(self) -> Path:
        """Write `ground_truth.json` and return its path."""
        path = self.folder / TRUTH_FILE
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "classes": list(CLASSES),
            "void_id": VOID_ID,
            "folders": {
                "images": IMAGE_FOLDER,
                "labels": LABEL_FOLDER,
                "anomaly": ANOMALY_FOLDER,
                "instances": INSTANCE_FOLDER,
            },
            "drives": self._drives,
        }
        sync_all()
        self._output.write(TRUTH_FILE, json.dumps(facts, separators=(",", ":")) + "\n")
        return path

    def _write_png(self, name: str, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        done, data = cv2.imencode(".png", pixels, COMPRESSION)
        if not done:
            raise OSError(f"{self.folder / name}: OpenCV cannot encode a PNG of {pixels.shape}")
        self._output.add(name)
        write_file(self.folder / name, data.tobytes(), sync=False)


def drive_facts(drive: SampleDrive) -> dict[str, Any]:
    """Facts about a whole drive, with an empty list of frames. docs/sample_drive.md describes the fields."""
    camera = dataclasses.asdict(drive.camera)
    return {
        "settings": dataclasses.asdict(drive.settings),
        "weather": drive.weather,
        "camera": {key: list(value) if isinstance(value, tuple) else value for key, value in camera.items()},
        "mounting": {
            "rotation": list(drive.mounting.rotation),
            "translation": list(drive.mounting.translation),
        },
        "frames": [],
    }


def frame_facts(frame: DriveFrame, name: str) -> dict[str, Any]:
    """Facts about one frame."""
    return {
        "index": frame.index,
        "name": name,
        "stamp_ns": frame.stamp_ns,
        "camera_pose": {
            "rotation": list(frame.camera_pose.rotation),
            "translation": list(frame.camera_pose.translation),
        },
        "vehicle": dataclasses.asdict(frame.vehicle),
        "obstacles": [
            {
                **dataclasses.asdict(obstacle),
                "footprint": [[round(value, 4) for value in place] for place in obstacle.footprint],
            }
            for obstacle in frame.obstacles
        ],
    }
