"""The data sets by name. A new set is a file of its own and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from training.data.camvid import CamVid
from training.data.labelled_frames import LabelledFrames


class DataSet(Protocol):
    """What is registered: a `LabelledFrames` subclass, called with a folder and a split (None: the folder's own, or
    the set's first)."""

    def __call__(self, folder: Path, split: str | None = None, /) -> LabelledFrames: ...


DATA_SETS: dict[str, DataSet] = {
    "camvid": CamVid,
}


def registered(name: str) -> str:
    """The registered name that `name` means: itself, or the longest one that it continues after a `_`.

    `camvid_night` is read as `camvid`, so that several folders of one set can be told apart.

    Raises:
        ValueError: no set of that name; the message lists those that there are.
    """
    fitting = [known for known in DATA_SETS if name == known or name.startswith(f"{known}_")]
    if not fitting:
        raise ValueError(
            f"no data set is called '{name}'; there are {', '.join(sorted(DATA_SETS))} (each may be followed by _WORD)"
        )
    return max(fitting, key=len)


def open_data_set(name: str, folder: Path | str, split: str | None = None) -> LabelledFrames:
    """The frames of a registered set.

    Raises:
        ValueError: no such set, or no such split.
        FileNotFoundError: its folders are not there.
    """
    return DATA_SETS[registered(name)](Path(folder), split)
