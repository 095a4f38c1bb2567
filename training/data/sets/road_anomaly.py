"""RoadAnomaly: `frame_list.json`, `frames/NAME.jpg|webp` and `frames/NAME.labels/labels_semantic.png`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, FramePaths, LabelledFrames


class RoadAnomaly(LabelledFrames):
    """The frames in `frame_list.json`. `folder` holds this file, or is a folder above it in the unzipped archive.

    Label files hold 0 for the background and 2 for anomalies (the set's readme). 1 is read as an inlier, because the
    authors' own reader calls this value road, and 255 as unknown.

    Unverified: whether any published label file has a 1 or a 255.
    """

    title = "RoadAnomaly"
    terms = "research purposes; the frames have licences of their own (credits.txt)"
    source = "https://www.epfl.ch/labs/cvlab/data/road-anomaly/ (RoadAnomaly_jpg.zip)"
    splits = ("test",)
    anomaly_map: Mapping[int, int] = {0: INLIER, 1: INLIER, 2: ANOMALY, IGNORE: IGNORE}

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        base = Path(folder)
        inner = ("RoadAnomaly_jpg", "RoadAnomaly/RoadAnomaly_jpg", "RoadAnomaly", ".")
        frames = self.existing(*(base / name / "frames" for name in inner))
        super().__init__(
            frames.parent,
            (
                FramePaths(Path(name).stem, frames / name, frames / f"{Path(name).stem}.labels" / "labels_semantic.png")
                for name in self._names(frames.parent / "frame_list.json")
            ),
        )

    def _names(self, file: Path) -> list[str]:
        try:
            names = json.loads(file.read_text())
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{file}: no such file; {self.title} is available from {self.source}") from error
        except ValueError as error:
            raise ValueError(f"{file}: not JSON ({error}); fetch it again") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{file}: it must be a list of file names in frames/")
        return names
