"""A tiny set of one's own: frames and masks in one folder each, with a `classes.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

IDS = (3, 7, 9)
"""In the masks of gravel, grass and shed."""
MASK_COLOURS = ((200, 10, 0), (0, 200, 10), (10, 0, 200))
COLOURS = ((120, 110, 100), (40, 160, 40), (150, 60, 60))
NAMES = ("gravel", "grass", "shed")
VOID = 255


def description(**changes: Any) -> dict[str, Any]:
    """The contents of `classes.yaml`."""
    classes = [
        {"name": name, "ids": [number], "colour": [*colour], "drivable": name == "gravel"}
        for name, number, colour in zip(NAMES, IDS, COLOURS, strict=True)
    ]
    splits = {s: {"images": "images", "masks": "masks", "frames": f"{s}.txt"} for s in ("train", "val")}
    content = {"name": "Yard", "licence": "ours", "splits": splits, "classes": classes, "ignored_ids": [VOID]}
    return content | changes


def of_colours(**changes: Any) -> dict[str, Any]:
    """The same for masks that hold colours; black is ignored."""
    content = description(ignored_colours=[[0, 0, 0]], **changes)
    del content["ignored_ids"]
    for known, colour in zip(content["classes"], MASK_COLOURS, strict=True):
        del known["ids"]
        known["mask_colours"] = [[*colour]]
    return content


def write_own(
    folder: Path, content: dict[str, Any] | None = None, frames: int = 8, size: tuple[int, int] = (96, 128)
) -> Path:
    """Write `images/`, `masks/`, `train.txt`, `val.txt` (the last quarter) and `classes.yaml`; `content` says whether
    the masks hold ids or colours."""
    content = description() if content is None else content
    generator = np.random.default_rng(3)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    colours = "ignored_colours" in content
    table = np.array([*(MASK_COLOURS if colours else [(i, i, i) for i in IDS]), (0, 0, 0) if colours else (VOID,) * 3])
    names = [f"frame{number:03d}" for number in range(frames)]
    for name in names:
        blocks = cv2.resize(generator.integers(0, 4, (3, 4), np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        seen = np.array([*COLOURS, (128, 128, 128)])[blocks] + generator.integers(0, 20, (*size, 3))
        mask = table[blocks].astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), seen.astype(np.uint8)[..., ::-1])
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask[..., ::-1] if colours else mask[..., 0])
    cut = frames - max(frames // 4, 1)
    (folder / "train.txt").write_text("\n".join(names[:cut]) + "\n")
    (folder / "val.txt").write_text("\n".join(names[cut:]) + "\n")
    (folder / "classes.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
