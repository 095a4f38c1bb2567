"""What is handed to a labelling tool: the classes, and for each frame what the network sees in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import UNLABELLED_ID, BundleDescription
from ros_ood_perception.messages.overlay import ANOMALY_COLOUR
from training.data.label_set_file import LabelSetClass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """The labels of a tool.

    Attributes:
        classes: as in `classes.yaml`: class n has the id n in the masks.
        unknown: name of the label of pixels that show none of the classes. They have `UNLABELLED_ID` in the masks.
        obstacle: name of the label of boxes.
    """

    classes: tuple[LabelSetClass, ...]
    unknown: str = "unknown"
    obstacle: str = "obstacle"

    @classmethod
    def of_bundle(cls, description: BundleDescription) -> Labels:
        """The classes of a bundle, and two names that none of them has."""
        used: set[Colour] = set()
        classes = []
        for number, known in enumerate(description.classes):
            colour = _unused(known.colour, used)
            used.add(colour)
            classes.append(LabelSetClass(known.name, colour, ids=(number,), drivable=known.drivable))
        names = {known.name for known in classes}
        return cls(tuple(classes), _free("unknown", names), _free("obstacle", names))

    @property
    def masks(self) -> dict[str, tuple[int, Colour]]:
        """Name of each label of pixels to its id in the masks, and its colour."""
        found = {known.name: (known.ids[0], known.colour) for known in self.classes}
        return found | {self.unknown: (UNLABELLED_ID, ANOMALY_COLOUR)}


@dataclass(frozen=True)
class PrelabelBox:
    """An obstacle: left, top, width and height in pixels, its id and its mean anomaly score, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    id: str
    score: float


@dataclass(frozen=True)
class Prelabel:
    """A frame as the network sees it.

    Attributes:
        name: of its files, without ending. Unique.
        ids: (H, W) uint8, class ids, and `UNLABELLED_ID` where an unknown object is.
        boxes: the obstacles.
    """

    name: str
    ids: NDArray[np.uint8] = field(repr=False)
    boxes: Sequence[PrelabelBox] = ()


def with_unknown(ids: NDArray[np.uint8], mask: NDArray[np.bool_], boxes: Sequence[PrelabelBox]) -> NDArray[np.uint8]:
    """Class ids with `UNLABELLED_ID` on the anomalous pixels within the boxes of obstacles.

    Elsewhere the score is high at class borders and on thin objects, which a person would only have to remove.

    Args:
        ids: (H, W) class ids.
        mask: (H, W), where the score reaches the threshold.
    """
    found = ids.copy()
    for box in boxes:
        rows = slice(max(round(box.y), 0), max(round(box.y + box.height), 0))
        columns = slice(max(round(box.x), 0), max(round(box.x + box.width), 0))
        found[rows, columns][mask[rows, columns]] = UNLABELLED_ID
    return found


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _unused(colour: Colour, used: set[Colour]) -> Colour:
    """The colour, or the next one that no class has: `classes.yaml` wants them distinct."""
    red, green, blue = colour
    while (red, green, blue) in used:
        blue = (blue + 1) % 256
    return red, green, blue
