"""The two tracks of SegmentMeIfYouCan: `images/NAME.jpg|webp` and `labels_masks/NAME_labels_semantic.png`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from training.data.labelled_frames import FramePaths
from training.data.sets.images_and_masks import ImagesAndMasks


class SmiycTrack(ImagesAndMasks):
    """The validation frames of a track. The labels of the test frames are not public.

    `folder` is the unzipped `dataset_...`, the folder that holds it, or a folder with `images/` and `labels_masks/`.
    Names and values as in https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark (`datasets/tracks.py`).

    Attributes:
        unzipped_as: the folder in the track's archive.
        left_out: prefixes of the names of frames that the benchmark leaves out.
    """

    unzipped_as: ClassVar[str]
    left_out: ClassVar[tuple[str, ...]] = ()
    terms = "research use; the frames have licences of their own (listed in the archive)"
    splits = ("validation",)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        super().__init__(self.existing(Path(folder) / self.unzipped_as, Path(folder)))

    def pairs(self, root: Path) -> list[FramePaths]:
        found = super().pairs(root)
        self.unlabelled = [paths for paths in found if not paths.labels.is_file()]
        return [paths for paths in found if paths.labels.is_file() and not paths.name.startswith(self.left_out)]


class SmiycAnomaly(SmiycTrack):
    """RoadAnomaly21: 10 validation frames, with anomalies anywhere in the image."""

    title = "SMIYC AnomalyTrack (RoadAnomaly21)"
    source = "https://segmentmeifyoucan.com/datasets (dataset_AnomalyTrack.zip)"
    unzipped_as = "dataset_AnomalyTrack"


class SmiycObstacle(SmiycTrack):
    """RoadObstacle21: 30 validation frames, with obstacles on the road. Pixels beside the road are 255."""

    title = "SMIYC ObstacleTrack (RoadObstacle21)"
    source = "https://segmentmeifyoucan.com/datasets (dataset_ObstacleTrack.zip)"
    unzipped_as = "dataset_ObstacleTrack"
    left_out = tuple(f"validation_{number}" for number in (19, *range(21, 30)))
