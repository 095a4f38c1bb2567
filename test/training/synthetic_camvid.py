"""A tiny tree in CamVid's layout: coloured blocks that even a tiny network tells apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

COLOURS = np.random.default_rng(5).integers(0, 256, (12, 3), np.uint8)


def write_camvid(folder: Path, frames: int = 6, size: tuple[int, int] = (96, 128)) -> Path:
    """Write `train/` and `val/` with `frames` frames each."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (folder / split / part).mkdir(parents=True)
        for number in range(frames):
            blocks = generator.integers(0, 12, (3, 4), np.uint8)
            labels = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
            noise = generator.integers(0, 20, (*size, 3), np.uint8)
            image = np.clip(COLOURS[labels].astype(int) + noise, 0, 255).astype(np.uint8)
            name = f"{split}_{number:03d}.png"
            cv2.imwrite(str(folder / split / "images" / name), image)
            cv2.imwrite(str(folder / split / "labels" / name), labels)
    return folder
