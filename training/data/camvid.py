"""CamVid in the 480x360, 11-class layout: `SPLIT/images/*.jpg|png` and `SPLIT/labels/*.png` with ids, 11 = void."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.label_set import CAMVID, IGNORE, LabelClass

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VOID_ID = 11


@dataclass(frozen=True)
class LabelledFrame:
    """One frame: image (H, W, 3) uint8 RGB, labels (H, W) uint8 with 255 where nothing counts."""

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class CamVid:
    """The frames of one split folder, in the order of their names.

    Raises:
        FileNotFoundError: a folder is missing, or an image has no labels; the message names it.
        ValueError: on reading, a file that cannot be decoded, labels of another size, or an id that no class has.
    """

    classes: tuple[LabelClass, ...] = CAMVID
    licence = "CC BY-NC 4.0"
    name = "CamVid"

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        for part in ("images", "labels"):
            if not (self.folder / part).is_dir():
                raise FileNotFoundError(
                    f"{self.folder / part}: no such folder; a CamVid split holds images/ and labels/ "
                    "(http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/)"
                )
        self.images = sorted(p for p in (self.folder / "images").iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
        if not self.images:
            raise FileNotFoundError(f"{self.folder / 'images'}: no images ({', '.join(IMAGE_ENDINGS)})")
        for image in self.images:
            if not self._labels_of(image).is_file():
                raise FileNotFoundError(f"{self._labels_of(image)}: no labels for {image}")

    def _labels_of(self, image: Path) -> Path:
        return self.folder / "labels" / f"{image.stem}.png"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self.images[index]
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"{path}: not an image that can be decoded")
        labels_path = self._labels_of(path)
        ids = cv2.imread(str(labels_path), cv2.IMREAD_UNCHANGED)
        if ids is None:
            raise ValueError(f"{labels_path}: not an image that can be decoded")
        if ids.dtype != np.uint8 or ids.shape != bgr.shape[:2]:
            raise ValueError(
                f"{labels_path}: labels are {ids.shape} {ids.dtype}; {path.name} needs {bgr.shape[:2]} uint8"
            )
        unknown = sorted(set(np.unique(ids).tolist()) - set(range(VOID_ID + 1)) - {IGNORE})
        if unknown:
            raise ValueError(f"{labels_path}: label value(s) {unknown}; CamVid has 0 to 10, and 11 or 255 for void")
        return LabelledFrame(
            name=path.stem,
            image=cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB),
            labels=np.where(ids == VOID_ID, np.uint8(IGNORE), ids),
        )
