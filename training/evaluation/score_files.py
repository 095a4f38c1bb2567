"""Anomaly scores that another method wrote, one file for each frame: HDF5, NumPy, PNG of 16 bits, TIFF."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ros_ood_perception.camera.image_file import MAX_FILE_PIXELS, ImageFileError, read_label_file
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import read_plain_file
from ros_ood_perception.shown_text import error_line
from training.data.progress import tracked
from training.evaluation.score_scale import ScoreScale

DATASET = "value"
"""Of an HDF5 file, as the SegmentMeIfYouCan harness writes it."""
LARGEST_FILE_BYTES = 8 * MAX_FILE_PIXELS + (1 << 20)
SHOWN_NAMES = 5


class ScoreFileError(PerceptionError, ValueError):
    """A file of scores that cannot be measured, or frames and files that do not match. The message names the remedy."""


class ScoreFiles:
    """The score files of a set: FOLDER/NAME.ENDING for the frame NAME.

    Args:
        folder: of the files.
        frames: names of the frames that must have scores.
        allowed: names of frames that may have some as well, such as those without labels.

    Raises:
        ScoreFileError: a frame has no file or two, or a file belongs to no frame.
        FileNotFoundError: no such folder.
    """

    def __init__(self, folder: Path, frames: Sequence[str], allowed: Iterable[str] = ()) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; give the one that holds NAME.npy (or another ending)")
        self.folder = folder
        self._files: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in READERS or path.name.startswith(".") or path.is_dir():
                continue
            name = path.relative_to(folder).with_name(path.name[: -len(path.suffix)]).as_posix()
            if name in self._files:
                raise ScoreFileError(f"{path}: {self._files[name].name} has scores of the frame {name} too; keep one")
            self._files[name] = path
        missing = [name for name in frames if name not in self._files]
        extra = [name for name in self._files if name not in {*frames, *allowed}]
        if missing or extra:
            parts = [f"{len(missing)} of {len(frames)} frames have no scores ({_some(missing)})"] if missing else []
            parts += [f"{len(extra)} files are of no frame of the set ({_some(extra)})"] if extra else []
            raise ScoreFileError(
                f"{folder}: {'; '.join(parts)}. A file has the name of its frame and one of the endings "
                f"{', '.join(READERS)}; give the folder directly above the files"
            )

    def path(self, frame: str) -> Path:
        """The file of a frame."""
        return self._files[frame]

    def read(self, frame: str) -> NDArray[Any]:
        """The scores of a frame, (H, W) float16 as stored or float32. A PNG's are divided by 65535.

        Raises:
            ScoreFileError: the file cannot be read, or holds no finite number for each pixel.
        """
        path = self._files[frame]
        score = READERS[path.suffix.lower()](path)
        if score.ndim != 2 or not score.size:
            raise ScoreFileError(f"{path}: the scores have the shape {score.shape}; they must be (height, width)")
        if score.dtype == np.uint16:
            return score.astype(np.float32) / np.float32(65535)
        if score.dtype not in (np.float16, np.float32, np.float64):
            raise ScoreFileError(f"{path}: the scores are {score.dtype}; write them as float16, float32 or float64")
        with np.errstate(over="ignore"):
            score = score if score.dtype == np.float16 else score.astype(np.float32)
        broken = int(np.count_nonzero(~np.isfinite(score)))
        if broken:
            raise ScoreFileError(
                f"{path}: {broken} of {score.size} scores are NaN or infinite, as float32; a score must be a number"
            )
        return score

    def scale(self, frames: Sequence[str]) -> ScoreScale:
        """Range and precision of all scores. Reads every file once.

        Raises:
            ScoreFileError: as for `read`.
        """
        lowest, highest, half = np.inf, -np.inf, True
        for frame in tracked(frames, "reading scores"):
            score = self.read(frame)
            lowest, highest = min(lowest, float(score.min())), max(highest, float(score.max()))
            half = half and score.dtype == np.float16
        return ScoreScale(lowest, highest, half)


def _hdf5(path: Path) -> NDArray[Any]:
    # Imported where it is needed: h5py is not installed everywhere.
    import h5py

    try:
        with h5py.File(io.BytesIO(_content(path)), "r") as file:
            link = file.get(DATASET, getlink=True)
            found = file[DATASET] if isinstance(link, h5py.HardLink) else None
            if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
                raise ScoreFileError(f"{path}: holds no dataset '{DATASET}' of its own, as the SMIYC harness writes it")
            if found.size is None or found.size > MAX_FILE_PIXELS:
                raise ScoreFileError(f"{path}: has {found.size} scores; at most {MAX_FILE_PIXELS} are possible")
            return np.asarray(found[()])
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise _unreadable(path, error, "an HDF5 file") from error


def _npy(path: Path) -> NDArray[Any]:
    try:
        # Pickled objects would run code.
        return np.asarray(np.load(io.BytesIO(_content(path)), allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise _unreadable(path, error, "a .npy file") from error


def _png(path: Path) -> NDArray[Any]:
    try:
        values = read_label_file(path)
    except ImageFileError as error:
        raise ScoreFileError(str(error)) from error
    if values.dtype != np.uint16:
        raise ScoreFileError(f"{path}: has 8 bits, which tie different scores; write 16 bits, or another format")
    return values


def _tiff(path: Path) -> NDArray[Any]:
    try:
        with Image.open(io.BytesIO(_content(path)), formats=("TIFF",)) as image:
            if image.width * image.height > MAX_FILE_PIXELS:
                raise ScoreFileError(f"{path}: has {image.width}x{image.height} pixels; too many")
            if image.mode not in ("F", "I;16", "I;16B", "I;16L"):
                raise ScoreFileError(f"{path}: holds {image.mode} pixels; write one float32 or uint16 a pixel")
            return np.asarray(image).astype(np.float32 if image.mode == "F" else np.uint16)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error, "a TIFF file") from error


def _content(path: Path) -> bytes:
    return read_plain_file(path, LARGEST_FILE_BYTES)


def _unreadable(path: Path, error: Exception, what: str) -> ScoreFileError:
    if isinstance(error, ScoreFileError):
        return error
    return ScoreFileError(f"{path}: not readable as {what} ({error_line(error)}); write it again")


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN_NAMES], *(["..."] if len(names) > SHOWN_NAMES else [])])


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".hdf5": _hdf5,
    ".h5": _hdf5,
    ".npy": _npy,
    ".png": _png,
    ".tif": _tiff,
    ".tiff": _tiff,
}
"""By the ending of a file, in lower case."""
