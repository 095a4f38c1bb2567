"""Recordings of a dark scene with bright squares that come, move and go: obstacles for the bundle `brightness`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from brightness_bundle import write_brightness_bundle
from numpy.typing import NDArray
from recorded_drive import camera_info, image, static_transforms, write_bag

from fleet.mine.settings import MineSettings

HEIGHT, WIDTH = 96, 128
SQUARE = 10


def picture(number: int, seed: int, life: int) -> NDArray[np.uint8]:
    """(96, 128, 3) uint8: at any time up to three squares, each of which lives for `life` frames."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(30, 60, (HEIGHT, WIDTH, 3), np.uint8)
    for light in range(-3, number // 4 + 1):
        born = 4 * light
        if not born <= number < born + life or light % 4 == 3:
            continue
        x = 5 + (37 * light) % 90 + (number - born)
        y = 30 + (23 * light) % 50
        pixels[y : y + SQUARE, x : x + SQUARE] = 200
    return pixels


def write_lights(path: Path, frames: int, seed: int = 0, life: int = 6, with_place: bool = True) -> Path:
    """A bag with one camera at 10 Hz."""
    images = [image(number, picture(number, seed, life)) for number in range(frames)]
    topics: dict[str, Sequence[Any]] = {"/front/image_raw": images}
    if with_place:
        infos = [camera_info(number, HEIGHT, WIDTH) for number in range(frames)]
        topics = {"/tf_static": [static_transforms()], "/front/camera_info": infos, **topics}
    return write_bag(path, topics)


def mine_settings(folder: Path, out: str, part_s: float = 0.0, *replay: str, outputs: bool = False) -> MineSettings:
    """Settings with the bundle `brightness`, which is written into a folder."""
    bundle = folder / "bundle"
    if not bundle.is_dir():
        write_brightness_bundle(bundle)
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    return MineSettings(out, files, None, ("--threads", "1", *replay), outputs, part_s)
