"""Class ids, names and colours of a training set."""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = 255
"""The label of pixels that no loss and no metric counts."""


@dataclass(frozen=True)
class LabelClass:
    """One class: its name and the colour (R, G, B) 0..255 that it is drawn in."""

    name: str
    colour: tuple[int, int, int]


CAMVID = (
    LabelClass("sky", (70, 130, 180)),
    LabelClass("building", (70, 70, 70)),
    LabelClass("pole", (153, 153, 153)),
    LabelClass("road", (128, 64, 128)),
    LabelClass("pavement", (244, 35, 232)),
    LabelClass("tree", (107, 142, 35)),
    LabelClass("sign", (220, 220, 0)),
    LabelClass("fence", (190, 153, 153)),
    LabelClass("car", (0, 0, 142)),
    LabelClass("pedestrian", (220, 20, 60)),
    LabelClass("bicyclist", (119, 11, 32)),
)
"""The eleven classes of CamVid as segmentation papers use it, in the order of their ids, in Cityscapes' colours."""
