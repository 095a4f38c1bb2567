"""Paste unknown objects into labelled frames, to select a network on the result.

    python -m sample_drive OBJECTS --seed 4000 --drives 24 --seconds 20 --rate 0.2 --frames
    python -m training.paste_objects --data camvid:FOLDER/val --objects OBJECTS --out PASTED
    python -m training.evaluate BUNDLE --data images_and_masks:PASTED

A network must not be selected on the test sets: its figures there would be biased. No training run has seen the
pasted objects. Rendered objects look rendered; cut-outs of your own frames say more (OBJECTS is any folder of images
and masks). Each frame gets one to three objects, which stand on a pixel of the ground classes. The same arguments give
the same bytes.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, sync_all, write_file
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.number_arguments import LARGEST_SEED, whole
from ros_ood_perception.shown_text import error_line
from training.data.arguments import DataArgument, data_argument
from training.data.labelled_frames import ANOMALY, LabelledFrame, LabelledFrames
from training.data.progress import tracked
from training.data.registry import open_data_set
from training.data.sets.images_and_masks import ImagesAndMasks

GROUND = ("road", "pavement", "sidewalk")
MIN_PIXELS = 200
"""Smallest size of a rendered object. Smaller ones are unrecognisable when they are enlarged."""
MAX_SIDE = 0.4
"""Longest side of a pasted object, as a share of the frame's height."""
SCALES = (0.4, 2.0)
MAX_OBJECTS = 3
FEATHER = 0.7
"""Standard deviation of the blur of an object's outline, pixels. It makes the outline as soft as other edges."""


class ObjectsError(PerceptionError, ValueError):
    """No objects to paste, or no ground to paste them on. The message names the folder and the remedy."""


@dataclass(frozen=True)
class CutOut:
    """One object: image (h, w, 3) uint8 RGB and mask (h, w) uint8, 1 on the object."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def cut_outs(frames: LabelledFrames) -> list[CutOut]:
    """Every object of the frames that is large enough and lies wholly inside its frame."""
    found = []
    for index in range(len(frames)):
        frame = frames[index]
        count, regions, boxes, _ = cv2.connectedComponentsWithStats((frame.anomaly == ANOMALY).astype(np.uint8))
        height, width = regions.shape
        for region in range(1, count):
            left, top, w, h, area = (int(value) for value in boxes[region])
            inside = left > 0 and top > 0 and left + w < width and top + h < height
            if area >= MIN_PIXELS and inside:
                box = np.s_[top : top + h, left : left + w]
                found.append(CutOut(frame.image[box], (regions[box] == region).astype(np.uint8)))
    return found


def pasted(
    frame: LabelledFrame, objects: list[CutOut], ground: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image (H, W, 3) uint8 and anomaly mask (H, W) uint8 of the frame with objects on its ground (H, W)."""
    image, mask = frame.image.copy(), frame.anomaly.copy()
    height, width = mask.shape
    rows, columns = np.nonzero(ground)
    for _ in range(int(generator.integers(1, MAX_OBJECTS + 1)) if len(rows) else 0):
        thing = objects[int(generator.integers(len(objects)))]
        scale = min(generator.uniform(*SCALES), MAX_SIDE * height / max(thing.mask.shape))
        size = tuple(max(4, round(side * scale)) for side in thing.mask.shape[::-1])
        smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(thing.image, size, interpolation=smaller)
        outline = cv2.resize(thing.mask.astype(np.float32), size, interpolation=smaller)
        if generator.random() < 0.5:
            picture, outline = picture[:, ::-1], outline[:, ::-1]
        chosen = int(generator.integers(len(rows)))
        bottom, left = int(rows[chosen]) + 1, int(columns[chosen]) - size[0] // 2
        top = bottom - size[1]
        y0, y1, x0, x1 = max(0, top), min(height, bottom), max(0, left), min(width, left + size[0])
        inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        there = np.s_[y0:y1, x0:x1]
        opacity = cv2.GaussianBlur(np.ascontiguousarray(outline), (0, 0), FEATHER)[inside][..., None]
        image[there] = np.round(image[there] * (1 - opacity) + picture[inside] * opacity).astype(np.uint8)
        mask[there][outline[inside] >= 0.5] = ANOMALY
    return image, mask


def paste_objects(data: DataArgument, objects: Path, out: Path, seed: int) -> int:
    """Write `out/images` and `out/labels_masks`; returns the number of frames.

    Raises:
        PerceptionError, OSError, ValueError: a file cannot be read or written, or there is nothing to paste.
    """
    check_apart("--out", out, {"--data": data.path, "--objects": objects})
    frames = open_data_set(data.name, data.path, data.split)
    ids = [index for index, entry in enumerate(frames.classes) if entry.name in GROUND]
    if not ids:
        raise ObjectsError(f"--data {data.shown}: has none of the classes {', '.join(GROUND)} to put objects on")
    things = cut_outs(ImagesAndMasks(objects))
    if not things:
        raise ObjectsError(
            f"--objects {objects}: no object of {MIN_PIXELS} pixels or more, wholly inside its frame, in it; render "
            "more frames, without --no-unknown"
        )
    output = OutputFolder.claim(out, "paste_objects")
    for name in ("images", "labels_masks"):
        with naming(out / name):
            (out / name).mkdir()
    for index in tracked(range(len(frames)), "pasting"):
        frame = frames[index]
        generator = np.random.default_rng((seed, index))
        image, mask = pasted(frame, things, np.isin(frame.labels, ids), generator)
        for name, pixels in (("images", image), ("labels_masks", mask)):
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, format="PNG")
            output.add(f"{name}/{frame.name}.png")
            write_file(out / name / f"{frame.name}.png", picture.getvalue(), sync=False)
    sync_all()
    return len(frames)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 a file cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m training.paste_objects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]", help="frames")
    parser.add_argument(
        "--objects", type=Path, required=True, help="folder with images/ and labels_masks/, as sample_drive writes them"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write images/ and labels_masks/ to")
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=0, help="of the choice of objects and places (default: 0)"
    )
    options = parser.parse_args(arguments)
    try:
        count = paste_objects(options.data, options.objects, options.out, options.seed)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"paste_objects: {error_line(error)}", file=sys.stderr)
        return 2
    print(f"{count} frames in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
