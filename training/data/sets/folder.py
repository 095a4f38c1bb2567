"""Frames of one's own: a folder whose `classes.yaml` says what they are (`training/data/label_set_file.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.image_bytes import PNG
from ros_ood_perception.camera.image_file import images_in
from ros_ood_perception.files.plain_file import NotPlainError, read_plain_file
from training.data.label_set import IGNORE, LabelClass
from training.data.label_set_file import LABEL_SET_FILE, LabelSetFile, SplitFiles, label_set_path, read_label_set
from training.data.labelled_frames import BrokenFrameError, FramePaths, LabelledFrames, inliers, read_image

LARGEST_LIST_BYTES = 16 << 20
SHOWN_COLOURS = 5


class Folder(LabelledFrames):
    """A split of a folder with a `classes.yaml`, or of a YAML file like it.

    Masks hold ids, or colours. Of a palette the index is the id, and in masks of colours its colour counts.

    Raises:
        SchemaError: the YAML file does not match its schema.
        ValueError: no such split, a list that does not name frames, a picture with another ending, or a frame that is
            in two splits.
    """

    title = "a set of your own"
    terms = "those of its frames"
    source = f"your own labelling; the folder needs a {LABEL_SET_FILE} (python -m training.init_labels writes a draft)"

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.file = label_set_path(Path(folder))
        if not self.file.exists():
            raise FileNotFoundError(f"{self.file}: no such file; {self.title} is available from {self.source}")
        self.label_set = read_label_set(self.file)
        chosen = _chosen_split(self.file, self.label_set, split)
        self.title, self.terms = self.label_set.name, self.label_set.licence
        self.classes = tuple(LabelClass(c.name, c.colour, c.drivable) for c in self.label_set.classes)
        # Colours are numbered in the order of the file; the raw value of a pixel is that number.
        self._colours = [colour for c in self.label_set.classes for colour in c.mask_colours]
        self._colours += self.label_set.ignored_colours
        if len(self._colours) > 256:
            raise ValueError(f"{self.file}: has {len(self._colours)} colours of masks; at most 256 are possible")
        self.label_map = self._label_map()
        self.anomaly_map = inliers(self.label_map)
        root = (self.file.parent / self.label_set.root).resolve() if self.label_set.root != "." else self.file.parent
        frames = list(self._frames(root, chosen))
        self._check_other_splits(root, chosen, frames)
        super().__init__(self.existing(root / self.label_set.splits[chosen].images), frames)

    def raw_labels(self, path: Path) -> NDArray[np.uint8]:
        """(H, W) uint8: ids as stored, or for masks of colours the number of each colour.

        Raises:
            BrokenFrameError: not a PNG, or a colour that no class has.
        """
        if not self._colours:
            return super().raw_labels(path)
        found = _packed(read_image(path, (PNG,)))
        wanted = _packed(np.array(self._colours, np.uint8))
        order = np.argsort(wanted)
        place = np.minimum(np.searchsorted(wanted, found, sorter=order), len(wanted) - 1)
        numbers = order[place]
        unknown = np.unique(found[wanted[numbers] != found])
        if unknown.size:
            shown = ", ".join(str([int(c) >> 16, int(c) >> 8 & 255, int(c) & 255]) for c in unknown[:SHOWN_COLOURS])
            more = f" and {unknown.size - SHOWN_COLOURS} more" if unknown.size > SHOWN_COLOURS else ""
            raise BrokenFrameError(f"{path}: colour(s) {shown}{more}; {self.title} has none of them{self.remedy}")
        return numbers.astype(np.uint8)

    def shown_values(self, raw: Sequence[int]) -> str:
        """Values of the masks, for a table."""
        if not self._colours:
            return super().shown_values(raw)
        return ", ".join("({} {} {})".format(*self._colours[number]) for number in raw)

    @property
    def remedy(self) -> str:
        """What to do about a value that no class has."""
        kind = "mask_colours" if self._colours else "ids"
        ignored = "ignored_colours" if self._colours else "ignored_ids"
        return f". Add it to a class ({kind}) or to {ignored} in {self.file}, or correct the mask"

    def _label_map(self) -> dict[int, int]:
        numbers = iter(range(len(self._colours)))
        found = {}
        for class_id, known in enumerate(self.label_set.classes):
            found.update(dict.fromkeys(known.ids or (next(numbers) for _ in known.mask_colours), class_id))
        return found | dict.fromkeys(self.label_set.ignored_ids or numbers, IGNORE)

    def _frames(self, root: Path, split: str) -> Iterator[FramePaths]:
        files = self.label_set.splits[split]
        images, masks = self.existing(root / files.images), self.existing(root / files.masks)
        if files.frames is None:
            named = self._images_of(images, masks)
        else:
            named = list(self._listed(images, masks, root / files.frames))
        for name, path in named:
            yield FramePaths(name, path, masks / f"{name}{self.label_set.mask_ending}")

    def _images_of(self, images: Path, masks: Path) -> list[tuple[str, Path]]:
        """Name and file of every image of a folder."""
        ending, mask_ending = self.label_set.image_ending, self.label_set.mask_ending
        found = images_in(images)
        if images.resolve() == masks.resolve():
            found = [path for path in found if not path.name.endswith(mask_ending)]
        if ending is None:
            return [(path.stem, path) for path in found]
        others = [path.name for path in found if not path.name.endswith(ending)]
        if others:
            raise ValueError(
                f"{images}: {len(others)} picture(s) do not end in '{ending}', such as {others[0]}; correct "
                f"image_ending in {self.file}, or move them away"
            )
        return [(path.name.removesuffix(ending), path) for path in found]

    def _listed(self, images: Path, masks: Path, path: Path) -> Iterator[tuple[str, Path]]:
        """Name and file of every image that a list names."""
        folders: dict[PurePosixPath, dict[str, Path]] = {}
        for number, name in _names(path):
            below = PurePosixPath(name)
            if below.is_absolute() or ".." in below.parts:
                raise ValueError(f"{path}, line {number}: {name!r} leads out of {images}; give names of frames in it")
            if below.parent not in folders:
                folder = images / below.parent
                pictures = self._images_of(folder, masks / below.parent) if folder.is_dir() else []
                folders[below.parent] = dict(pictures)
            if below.name not in folders[below.parent]:
                raise ValueError(
                    f"{path}, line {number}: {images} has no image of the frame {name!r}; a line is the name of a "
                    f"frame, without folder and ending ({self.label_set.image_ending or 'of any picture'})"
                )
            yield name, folders[below.parent][below.name]

    def _check_other_splits(self, root: Path, chosen: str, frames: Sequence[FramePaths]) -> None:
        """Refuse frames that are in another split as well. Splits that are not on this machine are not compared."""
        own = {paths.image.resolve() for paths in frames}
        for split, files in self.label_set.splits.items():
            if split == chosen or not _is_there(root, files):
                continue
            for paths in self._frames(root, split):
                if paths.image.resolve() in own:
                    raise ValueError(
                        f"{self.file}: the frame {paths.name} is in the splits '{chosen}' and '{split}'; figures on "
                        "frames of training say nothing. Leave it in one"
                    )


def _chosen_split(file: Path, label_set: LabelSetFile, split: str | None) -> str:
    names = list(label_set.splits)
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise ValueError(f"{file}: has the splits {', '.join(names)}; say which with @SPLIT")
    if split not in names:
        raise ValueError(f"{file}: has no split '{split}'; it has {', '.join(names)}")
    return split


def _is_there(root: Path, files: SplitFiles) -> bool:
    folders = all((root / folder).is_dir() for folder in (files.images, files.masks))
    return folders and (files.frames is None or (root / files.frames).is_file())


def _names(path: Path) -> list[tuple[int, str]]:
    """Number and content of every line that is not empty."""
    try:
        text = read_plain_file(path, LARGEST_LIST_BYTES).decode()
    except (NotPlainError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a list of frames ({error}); write one name a line, in UTF-8") from error
    found = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise ValueError(f"{path}: names no frame; write one name a line")
    return found


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(..., 3) uint8 -> (...) int32, one number for each colour."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue
