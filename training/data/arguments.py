"""Labelled frames as a command line names them: `--data NAME:PATH[@SPLIT]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.held_out import HeldOut
from training.data.labelled_frames import LabelledFrames
from training.data.registry import open_data_set, registered


@dataclass(frozen=True)
class DataArgument:
    """One `--data NAME:PATH[@SPLIT]`."""

    name: str
    path: Path
    split: str | None = None

    @property
    def shown(self) -> str:
        """NAME:FOLDER/PATH[@SPLIT], with the last part of the path only: what a record may say."""
        return f"{self.name}:FOLDER/{self.path.name}{f'@{self.split}' if self.split else ''}"


def data_argument(text: str) -> DataArgument:
    """NAME:PATH or NAME:PATH@SPLIT, as argparse wants it.

    Raises:
        argparse.ArgumentTypeError: neither, or a set that is not registered.
    """
    name, separator, path = text.partition(":")
    if not separator or not path:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:PATH or NAME:PATH@SPLIT")
    try:
        registered(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    # A folder's own name may hold an @.
    folder, at, split = path.rpartition("@")
    if at and not Path(path).exists():
        return DataArgument(name, Path(folder), split)
    return DataArgument(name, Path(path))


def open_frames(data: DataArgument, held_out: Sequence[str]) -> LabelledFrames:
    """The frames of one `--data`.

    Raises:
        ValueError, FileNotFoundError: as their messages say.
    """
    frames = open_data_set(data.name, data.path, data.split)
    if not held_out:
        return frames
    if not frames.classes or frames.has_anomalies:
        raise ValueError(f"--held-out needs a training set; {frames.title} has anomalies of its own")
    return HeldOut(frames, held_out).test
