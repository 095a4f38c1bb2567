"""StreetHazards (CAOS): simulated towns. Training towns show known classes, the two test towns also foreign objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import IGNORE, STREET_HAZARDS
from training.data.labelled_frames import ANOMALY, FramePaths, LabelledFrames, inliers

OTHER_VALUE = 4
ANOMALY_VALUE = 14
CLASS_VALUES = (1, 2, 3, *range(5, 14))
"""The value of each of the twelve classes in a label file, in the order of the classes."""


class StreetHazards(LabelledFrames):
    """The training towns: `train/images/training|validation/TOWN/*.png` and the same below `train/annotations`.

    Label files hold 1 to 14 (https://github.com/hendrycks/anomaly-seg, `create_dataset.py` with issue 15). The twelve
    classes are those of the paper (Hendrycks et al., ICML 2022), including the background. "Other" (4) is ignored, as
    in the open-set experiments of https://github.com/matejgrcic/DenseHybrid (issue 8). The authors' own evaluation
    counts it as an inlier.
    """

    title = "StreetHazards"
    terms = "none stated for the frames; their repository is MIT-licensed"
    source = "https://github.com/hendrycks/anomaly-seg (streethazards_train.tar)"
    classes = STREET_HAZARDS
    splits = ("val", "train")
    label_map = {OTHER_VALUE: IGNORE} | {raw: class_id for class_id, raw in enumerate(CLASS_VALUES)}
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        part = {"val": "validation", "train": "training"}[self.split_or_default(split)]
        root = Path(folder) / "train"
        images, labels = (self.existing(root / kind / part) for kind in ("images", "annotations"))
        super().__init__(images, _frames(labels, (town for town in images.iterdir() if town.is_dir())))


class StreetHazardsTest(LabelledFrames):
    """The test towns t5 and t6: `test/images/test/TOWN/*.png` and the same below `test/annotations`.

    Classes and anomalies are labelled. Each town is a split as well: open-mIoU takes the threshold of one town from the
    other.
    """

    title = "StreetHazards test"
    terms = StreetHazards.terms
    source = "https://github.com/hendrycks/anomaly-seg (streethazards_test.tar)"
    classes = STREET_HAZARDS
    splits = ("test", "t5", "t6")
    label_map = StreetHazards.label_map | {ANOMALY_VALUE: IGNORE}
    anomaly_map = StreetHazards.anomaly_map | {ANOMALY_VALUE: ANOMALY}

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        split = self.split_or_default(split)
        root = Path(folder) / "test"
        images, labels = (self.existing(root / kind / "test") for kind in ("images", "annotations"))
        towns = ("t5", "t6") if split == "test" else (split,)
        super().__init__(images, _frames(labels, [self.existing(images / town) for town in towns]))


def _frames(labels: Path, towns: Iterable[Path]) -> Iterator[FramePaths]:
    for town in towns:
        for path in images_in(town):
            yield FramePaths(f"{town.name}_{path.stem}", path, labels / town.name / path.name)
