"""Fishyscapes Static: 30 validation frames of Cityscapes with foreign objects blended in."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.labelled_frames import BrokenFrameError, FramePaths, LabelledFrame
from training.data.sets.images_and_masks import IMAGE_FOLDERS, ImagesAndMasks

RELEASES = ("fs_val_v3", "fs_val_v2", "fs_val_v1")


class FishyscapesStatic(ImagesAndMasks):
    """The validation set.

    As published: `fs_val_v3/NUMBER_FRAME_labels.png` with `NUMBER_FRAME_rgb.npz`, which is added to the frame of
    Cityscapes. That frame is `leftImg8bit/val/CITY/FRAME_leftImg8bit.png` beside that folder.

    Also read: composed images in `images/` or `original/` with masks of the same names. Public code distributes the set
    like this.

    Names, values and the sum as in https://github.com/hermannsblum/bdl-benchmark (`fishyscapes_tfds.py`). The releases
    v1 to v3 differ in the blending; the newest one in the folder is read.
    """

    title = "Fishyscapes Static"
    terms = "research use; those of Cityscapes for the frames"
    source = "https://fishyscapes.com/dataset (fs_val_v3.zip) and https://www.cityscapes-dataset.com/ (leftImg8bit)"
    splits = ("val",)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        self._overlays: dict[str, Path] = {}
        super().__init__(folder)

    def pairs(self, root: Path) -> list[FramePaths]:
        if any((root / name).is_dir() for name in IMAGE_FOLDERS):
            return super().pairs(root)
        release = self.existing(*(root / name for name in RELEASES))
        files = []
        for path in release.glob("*_labels.png"):
            name = path.name.removesuffix("_labels.png")
            frame = name.partition("_")[2]
            self._overlays[name] = release / f"{name}_rgb.npz"
            image = root / "leftImg8bit" / "val" / frame.partition("_")[0] / f"{frame}_leftImg8bit.png"
            for needed in (self._overlays[name], image):
                if not needed.is_file():
                    raise FileNotFoundError(
                        f"{needed}: no such file, but {path} needs it; {self.title} is available from {self.source}"
                    )
            files.append(FramePaths(name, image, path))
        return files

    def __getitem__(self, index: int) -> LabelledFrame:  # type: ignore[override]
        frame = super().__getitem__(index)
        if frame.name not in self._overlays:
            return frame
        return replace(frame, image=_composed(frame.image, self._overlays[frame.name]))


def _composed(image: NDArray[np.uint8], overlay: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the image plus the overlay's differences, clipped to 0..255."""
    try:
        with np.load(overlay) as arrays:
            difference = arrays["rgb"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BrokenFrameError(f"{overlay}: not an archive with an array 'rgb' ({error}); fetch it again") from error
    if difference.shape != image.shape:
        raise BrokenFrameError(f"{overlay}: 'rgb' is {difference.shape}, the frame is {image.shape}")
    return np.clip(image + difference, 0, 255).astype(np.uint8)
