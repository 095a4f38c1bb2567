"""Which classes a set shows, and how often: the table at the start of training and calibration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ros_ood_perception.shown_text import printable
from training.data.label_set import IGNORE
from training.data.labelled_frames import LabelledFrames

MOST_COUNTED = 400
"""Label files that are read of one set: a few seconds for files of two megapixels."""
WIDTH = 120
"""Columns of the table where it is not shown on a terminal."""


@dataclass(frozen=True)
class LabelCounts:
    """Pixels of a set by class.

    Attributes:
        pixels: (K,) int64, of each class.
        void: pixels without a class.
        counted: number of label files that were read, evenly over the set.
        frames: number of frames in the set.
    """

    pixels: NDArray[np.int64]
    void: int
    counted: int
    frames: int

    @property
    def shown_frames(self) -> str:
        """How many frames were counted, in words."""
        if self.counted == self.frames:
            return f"{self.frames} frames, all counted"
        return f"{self.frames} frames, an even sample of {self.counted} counted"


def count_labels(frames: LabelledFrames, most: int = MOST_COUNTED) -> LabelCounts:
    """Count the pixels of each class, from the label files alone.

    Args:
        most: frames to read. Of a larger set an even sample is read.

    Raises:
        BrokenFrameError: a label file cannot be read, or holds a value that the set does not have.
    """
    number = min(len(frames), most)
    bins = np.zeros(256, np.int64)
    for index in np.linspace(0, len(frames) - 1, number).round().astype(int):
        bins += np.bincount(frames.labels(int(index)).ravel(), minlength=256)
    return LabelCounts(bins[: len(frames.classes)], int(bins[IGNORE]), number, len(frames))


def print_label_table(sets: Sequence[tuple[LabelledFrames, str]]) -> None:
    """Print a table for each set to standard error, and a warning for the classes that no set shows.

    Args:
        sets: frames of the same classes, each with the name of its split.

    Raises:
        BrokenFrameError: as for `count_labels`.
    """
    console = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=WIDTH)
    found = [(frames, split, count_labels(frames)) for frames, split in sets]
    for frames, split, counts in found:
        console.print(_table(frames, split, counts), highlight=False)
    classes = sets[0][0].classes
    seen = np.sum([counts.pixels for *_, counts in found], axis=0) > 0
    absent = [known.name for known, there in zip(classes, seen, strict=True) if not there]
    if absent:
        sampled = any(counts.counted < counts.frames for *_, counts in found)
        console.print(
            f"warning: no pixel of {', '.join(map(printable, absent))} in "
            f"{'the counted frames' if sampled else 'any frame'}. A class without pixels is not learnt. Check that the "
            "values in the label files mean these classes; classes of your own: --data folder:PATH (docs/training.md)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _table(frames: LabelledFrames, split: str, counts: LabelCounts) -> Table:
    title = f"{frames.title} ({split}), {counts.shown_frames}"
    table = Table(title=escape(printable(title)), title_justify="left")
    table.add_column("class")
    table.add_column("values in the label files", overflow="ellipsis", no_wrap=True)
    for column in ("pixels", "share, %", "drivable"):
        table.add_column(column, justify="right")
    total = max(int(counts.pixels.sum()), 1)
    raw: dict[int, list[int]] = {}
    for value, class_id in frames.label_map.items():
        raw.setdefault(class_id, []).append(value)
    for class_id, known in enumerate(frames.classes):
        pixels = int(counts.pixels[class_id])
        table.add_row(
            escape(printable(known.name)),
            frames.shown_values(raw.get(class_id, [])),
            f"{pixels:,}",
            f"{100 * pixels / total:.2f}",
            "yes" if known.drivable else "",
        )
    table.add_section()
    table.add_row("no class", frames.shown_values(raw.get(IGNORE, [])), f"{counts.void:,}", "not learnt", "")
    return table
