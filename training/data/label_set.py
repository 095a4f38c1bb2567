"""Class ids, names and colours of a training set."""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = 255
"""The label of pixels that losses and metrics ignore."""


@dataclass(frozen=True)
class LabelClass:
    """One class.

    Attributes:
        colour: (R, G, B) 0..255 in pictures.
        drivable: whether a vehicle drives on it.
    """

    name: str
    colour: tuple[int, int, int]
    drivable: bool = False


CAMVID = (
    LabelClass("sky", (70, 130, 180)),
    LabelClass("building", (70, 70, 70)),
    LabelClass("pole", (153, 153, 153)),
    LabelClass("road", (128, 64, 128), drivable=True),
    LabelClass("pavement", (244, 35, 232)),
    LabelClass("tree", (107, 142, 35)),
    LabelClass("sign", (220, 220, 0)),
    LabelClass("fence", (190, 153, 153)),
    LabelClass("car", (0, 0, 142)),
    LabelClass("pedestrian", (220, 20, 60)),
    LabelClass("bicyclist", (119, 11, 32)),
)
"""The eleven classes of CamVid in segmentation papers, in the order of their ids, with the colours of Cityscapes."""

CITYSCAPES = (
    LabelClass("road", (128, 64, 128), drivable=True),
    LabelClass("sidewalk", (244, 35, 232)),
    LabelClass("building", (70, 70, 70)),
    LabelClass("wall", (102, 102, 156)),
    LabelClass("fence", (190, 153, 153)),
    LabelClass("pole", (153, 153, 153)),
    LabelClass("traffic light", (250, 170, 30)),
    LabelClass("traffic sign", (220, 220, 0)),
    LabelClass("vegetation", (107, 142, 35)),
    LabelClass("terrain", (152, 251, 152)),
    LabelClass("sky", (70, 130, 180)),
    LabelClass("person", (220, 20, 60)),
    LabelClass("rider", (255, 0, 0)),
    LabelClass("car", (0, 0, 142)),
    LabelClass("truck", (0, 0, 70)),
    LabelClass("bus", (0, 60, 100)),
    LabelClass("train", (0, 80, 100)),
    LabelClass("motorcycle", (0, 0, 230)),
    LabelClass("bicycle", (119, 11, 32)),
)
"""The nineteen evaluated classes of Cityscapes, in the order of its train ids, with its colours."""

STREET_HAZARDS = (
    LabelClass("background", (0, 0, 0)),
    LabelClass("building", (70, 70, 70)),
    LabelClass("fence", (190, 153, 153)),
    LabelClass("pedestrian", (220, 20, 60)),
    LabelClass("pole", (153, 153, 153)),
    LabelClass("road line", (157, 234, 50), drivable=True),
    LabelClass("road", (128, 64, 128), drivable=True),
    LabelClass("sidewalk", (244, 35, 232)),
    LabelClass("vegetation", (107, 142, 35)),
    LabelClass("car", (0, 0, 142)),
    LabelClass("wall", (102, 102, 156)),
    LabelClass("traffic sign", (220, 220, 0)),
)
"""The twelve classes of StreetHazards, in its authors' order and colours. Most of the background is sky."""
