"""Any folder with `images/` and masks with the values 0 (inlier), 1 (anomaly) and 255 (ignored)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, FramePaths, LabelledFrames, label_file

IMAGE_FOLDERS = ("images", "original")
MASK_FOLDERS = ("labels_masks", "labels", "masks")
MASK_ENDINGS = ("", "_labels_semantic", "_labels", "_mask")
"""Suffixes of a mask's name after the name of its image."""


class ImagesAndMasks(LabelledFrames):
    """Your own images and anomaly masks, or any set unpacked like this.

    The images are in `images/` or `original/`, the masks in `labels_masks/`, `labels/` or `masks/`. A mask is a PNG
    with the name of its image, with or without the suffix `_labels_semantic`, `_labels` or `_mask`. An image with
    several masks is refused.

    A split is a folder of that name between `folder` and these folders.
    """

    title = "images and masks"
    terms = "those of its images"
    source = "the origin of this folder; it needs images/ and one of labels_masks/, labels/, masks/"
    anomaly_map: Mapping[int, int] = {0: INLIER, 1: ANOMALY, IGNORE: IGNORE}

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        root = Path(folder) if split is None else Path(folder) / split
        super().__init__(root, self.pairs(root))

    def pairs(self, root: Path) -> list[FramePaths]:
        """Every image with its mask, or with the path that its mask should have."""
        images = self.existing(*(root / name for name in IMAGE_FOLDERS))
        masks = self.existing(*(root / name for name in MASK_FOLDERS))
        return [FramePaths(path.stem, path, _mask(masks, path.stem)) for path in images_in(images)]


def _mask(folder: Path, stem: str) -> Path:
    candidates = [label_file(folder / f"{stem}{ending}.png") for ending in MASK_ENDINGS]
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1:
        raise ValueError(f"{found[0]}: {found[1].name} is a mask of the image {stem} as well; keep one of them")
    return found[0] if found else candidates[0]
