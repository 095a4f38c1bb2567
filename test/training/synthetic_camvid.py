"""Tiny trees in the layouts of data sets: blocks that even a tiny network tells apart, and noise as anomalies."""

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


def write_anomalies(folder: Path, frames: int = 4, size: tuple[int, int] = (96, 128), shift: int = 0) -> Path:
    """Write `images/` and `labels_masks/NAME_labels_semantic.png`: blocks with a noisy square that is the anomaly (1),
    void (255) around it and in the rows below; the rest is 0. `shift` moves the squares."""
    generator = np.random.default_rng(1)
    for part in ("images", "labels_masks"):
        (folder / part).mkdir(parents=True)
    for number in range(frames):
        blocks = cv2.resize(generator.integers(0, 12, (3, 4), np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        image = COLOURS[blocks].copy()
        top, left, side = 10 + 3 * number, 8 + 20 * number + shift, 34
        mask = np.zeros(size, np.uint8)
        mask[top - 3 : top + side + 3, left - 3 : left + side + 3] = 255
        mask[top : top + side, left : left + side] = 1
        mask[-8:] = 255
        image[mask == 1] = generator.integers(0, 256, (int((mask == 1).sum()), 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"frame{number:04d}.png"), image)
        cv2.imwrite(str(folder / "labels_masks" / f"frame{number:04d}_labels_semantic.png"), mask)
    return folder
