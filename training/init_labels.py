"""Write a draft of `classes.yaml`, which tells training what your masks mean.

    python -m training.init_labels FOLDER

FOLDER holds `images/` and `masks/` (or `labels/`), or folders like this for each split (`train/images`, `train/masks`,
`val/images` and so on). Without splits, the last fifth of the frames goes to validation: neighbouring frames of a drive
are alike, so frames in between would measure what was learnt by heart. Every value or colour in the masks becomes a
class. Then give the classes their names, and say which are drivable. See docs/training.md.
"""

from __future__ import annotations

import argparse
import colorsys
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from ros_ood_perception.camera.image_bytes import PNG
from ros_ood_perception.camera.image_file import ImageFileError, images_in, read_image_file, read_label_file
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.shown_text import error_line
from training.data.label_set import IGNORE
from training.data.label_set_file import LABEL_SET_FILE
from training.data.labelled_frames import BrokenFrameError, label_file
from training.data.progress import tracked

MASK_FOLDERS = ("masks", "labels")
VALIDATION_SHARE = 5
"""One frame of so many is for validation."""
MOST_CLASSES = 64
"""More values than this are no classes: anti-aliased or compressed colours, or instance ids."""
HEAD = """# A draft by training.init_labels. Name the classes, in the order that their ids shall have in the bundle.
# Several ids or colours may be one class. `colour` is for pictures. What is no class goes out of the list, into
# `ignored_ids: [11, 255]` (or `ignored_colours: [[0, 0, 0]]`) at the end of the file; it is not learnt.
# `drivable: true` marks what the vehicle drives on.
"""


@dataclass(frozen=True)
class Split:
    """The images and the folder of masks of a split; `folder` is relative to the set's folder."""

    folder: Path
    images: list[Path]
    masks: Path


def find_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder by name; one named '' if it has none.

    Raises:
        FileNotFoundError: neither the folder nor one below it holds images/ and masks/.
    """
    found = {}
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        masks = next((place / name for name in MASK_FOLDERS if (place / name).is_dir()), None)
        if (place / "images").is_dir() and masks is not None and (images := images_in(place / "images")):
            found["" if place == folder else place.name] = Split(place.relative_to(folder), images, masks)
        if "" in found:
            break
    if not found:
        raise FileNotFoundError(
            f"{folder}: neither it nor a folder in it holds images/ with pictures, and {'/ or '.join(MASK_FOLDERS)}/; "
            f"arrange the files so, or write {LABEL_SET_FILE} by hand (docs/training.md)"
        )
    return found


def values_of(masks: Iterable[Path]) -> tuple[list[int], list[tuple[int, int, int]]]:
    """The ids in the masks or, if a mask holds colours, the colours (R, G, B) in them; the other list is empty.

    Raises:
        BrokenFrameError: a mask cannot be read, or some hold ids and others colours.
    """
    ids: set[int] = set()
    colours: set[tuple[int, int, int]] = set()
    for path in masks:
        try:
            ids |= set(np.unique(read_label_file(path)).tolist())
        except ImageFileError as of_ids:
            try:
                found = read_image_file(path, kinds=(PNG,))[..., ::-1].reshape(-1, 3)
            except ImageFileError:
                raise BrokenFrameError(str(of_ids)) from of_ids
            colours |= {(int(r), int(g), int(b)) for r, g, b in np.unique(found, axis=0)}
        if ids and colours:
            raise BrokenFrameError(f"{path}: some masks hold ids and some colours; write them alike")
        if max(ids, default=0) > 255 or len(ids) + len(colours) > MOST_CLASSES:
            what = f"{len(colours)} colours" if colours else f"{len(ids)} ids, up to {max(ids)}"
            raise BrokenFrameError(
                f"{path}: up to here the masks hold {what}; masks of classes have at most {MOST_CLASSES}, and ids are "
                "0 to 255. Instance ids, or colours blurred by scaling or JPEG, are no classes"
            )
    return sorted(ids), sorted(colours)


def draft(folder: Path) -> list[Path]:
    """Write the draft; returns the files written.

    Raises:
        FileExistsError: one of the files is there.
        FileNotFoundError, BrokenFrameError: as for `find_splits` and `values_of`, or a mask is missing.
    """
    splits = find_splits(folder)
    masks = [label_file(split.masks / f"{path.stem}.png") for split in splits.values() for path in split.images]
    missing = [path for path in masks if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]}: no such mask; {len(missing)} of {len(masks)} masks are missing. Masks are PNGs named as "
            "images"
        )
    ids, colours = values_of(tracked(masks, "masks"))
    described, files = _described(splits)
    content: dict[str, object] = {
        "name": folder.resolve().name,
        "licence": "say under which terms the frames may be used",
        "splits": described,
        "classes": _classes([value for value in ids if value != IGNORE], colours),
    }
    if IGNORE in ids:
        content["ignored_ids"] = [IGNORE]
    files[LABEL_SET_FILE] = HEAD + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    for name in files:
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name}: exists and is not replaced; move it away")
    for name, text in files.items():
        write_file(folder / name, text)
    return [folder / name for name in files]


def _described(splits: dict[str, Split]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The field `splits` of the file, and the lists of frames that it names, by name."""
    if "" not in splits:
        return {
            name: {"images": f"{split.folder}/images", "masks": f"{split.folder}/{split.masks.name}"}
            for name, split in splits.items()
        }, {}
    alone = splits[""]
    names = [path.stem for path in alone.images]
    first = len(names) - max(len(names) // VALIDATION_SHARE, 1)
    parts = {"train": names[:first], "val": names[first:]}
    described = {split: {"images": "images", "masks": alone.masks.name, "frames": f"{split}.txt"} for split in parts}
    return described, {f"{split}.txt": "\n".join([*part, ""]) for split, part in parts.items()}


def _classes(ids: list[int], colours: list[tuple[int, int, int]]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number, value in enumerate(ids):
        colour = [round(255 * channel) for channel in colorsys.hsv_to_rgb(number / len(ids), 0.7, 0.9)]
        found.append({"name": f"id {value}", "ids": [value], "colour": colour, "drivable": False})
    for rgb in colours:
        name = "colour {} {} {}".format(*rgb)
        found.append({"name": name, "mask_colours": [list(rgb)], "colour": list(rgb), "drivable": False})
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.init_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of your frames and masks")
    options = parser.parse_args(arguments)
    try:
        written = draft(options.folder)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"init_labels: {error_line(error)}", file=sys.stderr)
        return 2
    for path in written:
        print(f"{path}: written")
    print("Now name the classes there, and mark those that the vehicle drives on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
