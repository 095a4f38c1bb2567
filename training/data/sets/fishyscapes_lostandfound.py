"""Fishyscapes Lost & Found: new masks for 100 frames of Lost and Found."""

from __future__ import annotations

from pathlib import Path

from training.data.labelled_frames import FramePaths
from training.data.sets.images_and_masks import IMAGE_FOLDERS, ImagesAndMasks

MASKS = "fishyscapes_lostandfound"


class FishyscapesLostAndFound(ImagesAndMasks):
    """The validation set.

    As published: `fishyscapes_lostandfound/NUMBER_FRAME_labels.png` from Fishyscapes, and beside that folder
    `leftImg8bit/train|test/SCENE/FRAME_leftImg8bit.png` from Lost and Found.

    Also read: selected images in `laf_images/FRAME_leftImg8bit.png` beside the masks, or in `images/` or `original/`
    with masks of the same names. Public code distributes the set like this.

    Names and values as in https://github.com/hermannsblum/bdl-benchmark (`fishyscapes_tfds.py`).
    """

    title = "Fishyscapes Lost & Found"
    terms = "research use; those of Lost and Found for the frames"
    source = "https://fishyscapes.com/dataset (masks) and Lost and Found's page (leftImg8bit.zip)"
    splits = ("val",)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        super().__init__(folder)

    def pairs(self, root: Path) -> list[FramePaths]:
        if any((root / name).is_dir() for name in IMAGE_FOLDERS):
            return super().pairs(root)
        return [
            FramePaths(name, self._image(root, name.partition("_")[2]), path)
            for path in self.existing(root / MASKS).glob("*_labels.png")
            if (name := path.name.removesuffix("_labels.png"))
        ]

    def _image(self, root: Path, frame: str) -> Path:
        file, scene = f"{frame}_leftImg8bit.png", frame.rsplit("_", 2)[0]
        candidates = [root / "leftImg8bit" / part / scene / file for part in ("train", "test")]
        candidates.append(root / "laf_images" / file)
        for path in candidates:
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"{candidates[0]}: no image for {root / MASKS}, nor {candidates[1]}, nor {candidates[2]}; "
            f"{self.title} is available from {self.source}"
        )
