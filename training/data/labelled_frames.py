"""Labelled frames of any data set: the base class that reads them. Each set has a file that says where they are."""

from __future__ import annotations

import difflib
import glob
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.image_bytes import FILE_KINDS
from ros_ood_perception.camera.image_decoder import NOT_LABELS
from ros_ood_perception.camera.image_file import ImageFileError, read_image_file, read_label_file
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.natural_order import natural_key
from training.data.label_set import IGNORE, LabelClass

INLIER = 0
ANOMALY = 1


class BrokenFrameError(PerceptionError, ValueError):
    """A frame that cannot be used. The message names the file and the remedy. Other frames of the set may be valid."""


@dataclass(frozen=True)
class LabelledFrame:
    """One frame, decoded.

    Attributes:
        name: unique within its set.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class ids, 255 where no class is known (everywhere, in a set without classes).
        anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 unknown.
    """

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]


@dataclass(frozen=True)
class FramePaths:
    """The files of one frame."""

    name: str
    image: Path
    labels: Path


class LabelledFrames(Sequence[LabelledFrame]):
    """The frames of one split of a data set, in natural order of their names. Each frame is decoded when it is read.

    A data set is a subclass with the class attributes below and a constructor `(folder, split=None)` that finds the
    files. Broken files are noticed only when they are read.

    Attributes:
        title: the set's name as its authors write it.
        terms: the licence of the set, or its terms of use in a few words.
        source: where to get it.
        classes: its classes in the order of their ids; empty in a set that labels anomalies only.
        splits: its splits; the first one is the default.
        label_map: raw value of a label file -> class id, or 255.
        anomaly_map: raw value of a label file -> 0, 1 or 255.
        unlabelled: frames without labels in the same folder (hidden test frames of a benchmark).

    Raises:
        FileNotFoundError: a folder is missing or holds no frames, or an image has no labels; the message names it and
            says where to get the set.
        ValueError: two frames have the same name or the same labels.
        BrokenFrameError: on reading a frame: a file cannot be decoded, the labels differ from the image in size, or
            hold a value that the set does not have.
    """

    title: str
    terms: str
    source: str
    classes: tuple[LabelClass, ...] = ()
    splits: ClassVar[tuple[str, ...]] = ()
    label_map: Mapping[int, int] = {}
    anomaly_map: Mapping[int, int] = {}
    unlabelled: Sequence[FramePaths] = ()

    def __init__(self, folder: Path, files: Iterable[FramePaths]) -> None:
        self.folder = folder
        found = (replace(paths, labels=label_file(paths.labels)) for paths in files)
        self.files = sorted(found, key=lambda paths: natural_key(paths.name))
        if not self.files:
            raise FileNotFoundError(f"{folder}: no frames of {self.title} there; it is available from {self.source}")
        for paths in self.files:
            if not paths.labels.is_file():
                raise FileNotFoundError(f"{paths.labels}: no labels for {paths.image}{_beside(paths.labels)}")
        _check_distinct(self.files)
        self._label_table = _table(self.label_map)
        self._anomaly_table = _table(self.anomaly_map)
        self._known = np.zeros(256, bool)
        self._known[[*self.label_map, *self.anomaly_map]] = True

    @classmethod
    def existing(cls, *folders: Path) -> Path:
        """The first of the folders that exists, for sets with several layouts.

        Raises:
            FileNotFoundError: none exists; the message says where to get the set.
        """
        for folder in folders:
            if folder.is_dir():
                return folder
        missing = ", nor ".join([f"{folders[0]}: no such folder", *(str(folder) for folder in folders[1:])])
        raise FileNotFoundError(f"{missing}; {cls.title} is available from {cls.source}")

    @classmethod
    def split_or_default(cls, split: str | None) -> str:
        """The split of that name, the set's first for None.

        Raises:
            ValueError: the set has no such split.
        """
        if split is not None and split not in cls.splits:
            raise ValueError(f"{cls.title} has no split '{split}'; it has {', '.join(cls.splits)}")
        return split or cls.splits[0]

    @property
    def has_anomalies(self) -> bool:
        """Whether anomalies are labelled in this set."""
        return ANOMALY in self.anomaly_map.values()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> LabelledFrame:  # type: ignore[override]
        paths = self.files[index]
        image = read_image(paths.image)
        raw = self.raw_labels(paths.labels)
        if raw.shape != image.shape[:2]:
            raise BrokenFrameError(
                f"{paths.labels}: labels are {raw.shape[0]}x{raw.shape[1]}, the image {paths.image.name} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width); they must have one size"
            )
        self._check_known(raw, paths.labels)
        return LabelledFrame(paths.name, image, self._label_table[raw], self._anomaly_table[raw])

    def labels(self, index: int) -> NDArray[np.uint8]:
        """The class ids of a frame, (H, W) uint8, without reading its image.

        Raises:
            BrokenFrameError: the label file cannot be decoded, or holds a value that the set does not have.
        """
        path = self.files[index].labels
        raw = self.raw_labels(path)
        self._check_known(raw, path)
        return self._label_table[raw]

    def raw_labels(self, path: Path) -> NDArray[np.uint8]:
        """The raw values of a label file, (H, W) uint8: the keys of `label_map` and `anomaly_map`.

        Raises:
            BrokenFrameError: the file is not a decodable PNG of such values.
        """
        return read_label_map(path)

    def shown_values(self, raw: Sequence[int]) -> str:
        """Raw values, for a table."""
        return _ranges(sorted(raw))

    @property
    def remedy(self) -> str:
        """What to do about a value that the set does not have: the end of a sentence, or empty."""
        return ""

    def _check_known(self, raw: NDArray[np.uint8], path: Path) -> None:
        unknown = np.flatnonzero((np.bincount(raw.ravel(), minlength=256) > 0) & ~self._known)
        if unknown.size:
            raise BrokenFrameError(
                f"{path}: label value(s) {unknown.tolist()}; {self.title} has "
                f"{_ranges(np.flatnonzero(self._known).tolist())}{self.remedy}"
            )


def label_file(path: Path) -> Path:
    """A label file as it is on disk: `path`, or the same with an ending in upper case if only that exists."""
    if path.is_file():
        return path
    endings = (path.suffix.upper(), path.suffix.title())
    return next((other for ending in endings if (other := path.with_suffix(ending)).is_file()), path)


def _beside(labels: Path) -> str:
    """A remark about the file that may be the missing labels: with another ending, or of nearly the same name."""
    others = sorted(path.name for path in labels.parent.glob(f"{glob.escape(labels.stem)}.*"))
    if others and not others[0].lower().endswith(".png"):
        return f"; {others[0]} is there, but labels must be PNG"
    names = sorted(path.name for path in labels.parent.iterdir()) if labels.parent.is_dir() else []
    same = [name for name in names if _without_case(name) == _without_case(labels.name)]
    nearest = others or same or difflib.get_close_matches(labels.name, names, 1, 0.5)
    return f"; a label file must have the name of its image (nearest: {nearest[0]!r})" if nearest else ""


def _without_case(name: str) -> str:
    """macOS writes accents as characters of their own."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_distinct(files: Sequence[FramePaths]) -> None:
    for kind, key in (("name", lambda paths: paths.name), ("labels", lambda paths: paths.labels)):
        seen: dict[Any, FramePaths] = {}
        for paths in files:
            first = seen.setdefault(key(paths), paths)
            if first is not paths:
                raise ValueError(
                    f"{paths.image}: has the same {kind} as {first.image} ({key(paths)}); each image needs its own: "
                    "remove or rename one"
                )


def inliers(label_map: Mapping[int, int]) -> dict[int, int]:
    """The anomaly map of a set without anomalies: pixels with a class are inliers, the rest is unknown."""
    return {raw: INLIER for raw, class_id in label_map.items() if class_id != IGNORE}


def _table(mapping: Mapping[int, int]) -> NDArray[np.uint8]:
    table = np.full(256, IGNORE, np.uint8)
    for raw, value in mapping.items():
        table[raw] = value
    return table


def _ranges(values: list[int]) -> str:
    """0, 1, 2, 5 -> '0 to 2, 5'."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def read_image(path: Path, kinds: Collection[str] = FILE_KINDS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, read like everywhere in the package: see `ros_ood_perception.camera.image_file`.

    Args:
        kinds: formats that are read, of `FILE_KINDS`.

    Raises:
        BrokenFrameError: the file is not a decodable image.
    """
    try:
        return cv2.cvtColor(read_image_file(path, kinds=kinds), cv2.COLOR_BGR2RGB)
    except ImageFileError as error:
        raise _broken(path, error) from error


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8 as stored: indices of a palette, not its colours; values of 1 bit become 0 and 1.

    Raises:
        BrokenFrameError: the file is not a decodable PNG, or does not hold single values of 0 to 255.
    """
    try:
        labels = read_label_file(path)
    except ImageFileError as error:
        raise _broken(path, error) from error
    if labels.dtype != np.uint8 and labels.max() > 255:
        raise BrokenFrameError(f"{path}: label value {labels.max()}; ids are 0 to 255")
    return labels.astype(np.uint8, copy=False)


def _broken(path: Path, error: ImageFileError) -> BrokenFrameError:
    if not path.exists():
        return BrokenFrameError(f"{path}: no such file")
    reason = str(error).removeprefix(f"{path}: ")
    if isinstance(error.__cause__, MalformedImageError) and error.__cause__.kind == NOT_LABELS:
        return BrokenFrameError(f"{path}: {reason}")
    return BrokenFrameError(f"{path}: not a decodable image ({reason}); fetch it again")
