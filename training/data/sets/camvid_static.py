"""CamVid-Static: the validation frames of CamVid; two of three have foreign objects blended in."""

from __future__ import annotations

from pathlib import Path

from training.data.sets.images_and_masks import ImagesAndMasks


class CamVidStatic(ImagesAndMasks):
    """The 101 frames: `images/*.jpg` and `labels/*.png`."""

    title = "CamVid-Static"
    terms = "CC BY-NC 4.0 for CamVid's frames, each source's own for the objects"
    source = "this project's maintainers; it is not published elsewhere"
    splits = ("val",)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        super().__init__(folder)
