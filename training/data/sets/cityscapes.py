"""Cityscapes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CITYSCAPES, IGNORE
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The value of each of the nineteen classes in a `labelIds` file, in the order of the classes."""

VOID_IDS = tuple(sorted({*range(34), 255} - {*LABEL_IDS}))
"""The other values of a `labelIds` file. 255 is -1 (licence plate) in eight bits."""

LABEL_MAP = dict.fromkeys(VOID_IDS, IGNORE) | {raw: class_id for class_id, raw in enumerate(LABEL_IDS)}


class Cityscapes(LabelledFrames):
    """The finely labelled frames of a split. There is no test split: its labels are not public.

    Layout, ids and void classes as in https://github.com/mcordts/cityscapesScripts (README, `helpers/labels.py`).
    """

    title = "Cityscapes"
    terms = "Cityscapes licence: non-commercial research and teaching"
    source = "https://www.cityscapes-dataset.com/ (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)"
    classes = CITYSCAPES
    splits = ("val", "train")
    label_map = LABEL_MAP
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        root, split = Path(folder), self.split_or_default(split)
        images, labels = (self.existing(root / part / split) for part in ("leftImg8bit", "gtFine"))
        super().__init__(images, frames_by_city(images, labels, "_gtFine_labelIds.png"))


def frames_by_city(images: Path, labels: Path, ending: str) -> list[FramePaths]:
    """`CITY/NAME_leftImg8bit.png` (or another image format) with `CITY/NAME{ending}` of `labels`, by name.

    The order is that of the characters: the authors of Lost and Found number its frames so.
    """
    found = []
    for city in (entry for entry in images.iterdir() if entry.is_dir()):
        for path in images_in(city):
            name = path.stem.removesuffix("_leftImg8bit")
            if name != path.stem:
                found.append(FramePaths(name, path, labels / city.name / f"{name}{ending}"))
    return sorted(found, key=lambda paths: paths.name)
