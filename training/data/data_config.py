"""The configuration of a training run's frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FurtherSet:
    """One more set to train on.

    Attributes:
        set: registered name; its classes must be the first set's.
        root: its folder; `--data SET:FOLDER` on the command line replaces it.
        train: the split to train on.
    """

    set: str
    root: str
    train: str = "train"


@dataclass(frozen=True)
class DataConfig:
    """Frames for training and validation.

    Attributes:
        set: registered name of the data set (`python -m training.evaluate --list`).
        root: its folder; `--data` on the command line replaces it.
        train, validation: the splits for training and for validation.
        more: further sets to train on. Each of their frames is used as often as one of the first set.
        held_out: classes that must not be learnt. Frames that show them are left out, and they have no id. If every
            validation frame shows one, all validation frames are kept, with these pixels void.
        keep_in_memory: decode every training frame once, and keep it.
        workers: number of processes that make crops.
    """

    set: str = "camvid"
    root: str = "data/camvid"
    train: str = "train"
    validation: str = "val"
    more: tuple[FurtherSet, ...] = ()
    held_out: tuple[str, ...] = ()
    keep_in_memory: bool = True
    workers: int = 1

    def __post_init__(self) -> None:
        names = [self.set, *(further.set for further in self.more)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is named twice; a _WORD after the name tells folders of one set apart, such as "
                f"{twice[0]}_night"
            )

    def folders(self, given: Sequence[str] = ()) -> dict[str, Path]:
        """The folder of each set, by its name in this configuration.

        Args:
            given: `SET:FOLDER`, or `FOLDER` for the only set; they replace the roots.

        Raises:
            ValueError: there are several sets and a folder lacks SET, or a set has two folders.
        """
        found = {self.set: Path(self.root), **{further.set: Path(further.root) for further in self.more}}
        replaced = set()
        for text in given:
            name, colon, folder = text.partition(":")
            if not colon or name not in found:
                if self.more:
                    raise ValueError(f"--data {text}: give SET:FOLDER with SET one of {', '.join(found)}")
                name, folder = self.set, text
            if name in replaced:
                raise ValueError(f"--data is given twice for {name}")
            replaced.add(name)
            found[name] = Path(folder)
        return found
