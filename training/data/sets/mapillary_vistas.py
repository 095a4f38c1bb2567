"""Mapillary Vistas v1.x and v2.0, with the nineteen classes of Cityscapes."""

from __future__ import annotations

import json
from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CITYSCAPES, IGNORE
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers

NAMES_OF = {
    "road": (
        "construction--flat--bike-lane",
        "construction--flat--crosswalk-plain",
        "construction--flat--pedestrian-area",
        "construction--flat--road",
        "construction--flat--road-shoulder",
        "construction--flat--service-lane",
        "marking--continuous--dashed",
        "marking--continuous--solid",
        "marking--continuous--zigzag",
        "marking--crosswalk-zebra",
        "marking--discrete--ambiguous",
        "marking--discrete--arrow--left",
        "marking--discrete--arrow--other",
        "marking--discrete--arrow--right",
        "marking--discrete--arrow--split-left-or-straight",
        "marking--discrete--arrow--split-right-or-straight",
        "marking--discrete--arrow--straight",
        "marking--discrete--crosswalk-zebra",
        "marking--discrete--give-way-row",
        "marking--discrete--give-way-single",
        "marking--discrete--hatched--chevron",
        "marking--discrete--hatched--diagonal",
        "marking--discrete--other-marking",
        "marking--discrete--stop-line",
        "marking--discrete--symbol--bicycle",
        "marking--discrete--symbol--other",
        "marking--discrete--text",
        "marking--general",
        "marking-only--continuous--dashed",
        "marking-only--discrete--crosswalk-zebra",
        "marking-only--discrete--other-marking",
        "marking-only--discrete--text",
        "object--catch-basin",
        "object--manhole",
        "object--pothole",
    ),
    "sidewalk": (
        "construction--barrier--curb",
        "construction--flat--curb-cut",
        "construction--flat--sidewalk",
    ),
    "building": ("construction--structure--building", "construction--structure--garage"),
    "wall": (
        "construction--barrier--concrete-block",
        "construction--barrier--other-barrier",
        "construction--barrier--wall",
    ),
    "fence": ("construction--barrier--fence",),
    "pole": ("object--support--pole", "object--support--traffic-sign-frame", "object--support--utility-pole"),
    "traffic light": (
        "object--traffic-light",
        "object--traffic-light--cyclists",
        "object--traffic-light--general-horizontal",
        "object--traffic-light--general-single",
        "object--traffic-light--general-upright",
        "object--traffic-light--other",
        "object--traffic-light--pedestrians",
    ),
    "traffic sign": (
        "object--traffic-sign--direction-front",
        "object--traffic-sign--front",
        "object--traffic-sign--information-parking",
        "object--traffic-sign--temporary-front",
    ),
    "vegetation": ("nature--vegetation",),
    "terrain": ("nature--terrain",),
    "sky": ("nature--sky",),
    "person": ("human--person", "human--person--individual", "human--person--person-group"),
    "rider": ("human--rider--bicyclist", "human--rider--motorcyclist", "human--rider--other-rider"),
    "car": ("object--vehicle--car",),
    "truck": ("object--vehicle--truck",),
    "bus": ("object--vehicle--bus",),
    "train": ("object--vehicle--on-rails",),
    "motorcycle": ("object--vehicle--motorcycle",),
    "bicycle": ("object--vehicle--bicycle",),
}
"""The names of Vistas' classes, of both versions, that each class of Cityscapes covers."""

WITHOUT_CLASS = (
    "animal--bird",
    "animal--ground-animal",
    "construction--barrier--ambiguous",
    "construction--barrier--guard-rail",
    "construction--barrier--road-median",
    "construction--barrier--road-side",
    "construction--barrier--separator",
    "construction--barrier--temporary",
    "construction--flat--driveway",
    "construction--flat--parking",
    "construction--flat--parking-aisle",
    "construction--flat--rail-track",
    "construction--flat--traffic-island",
    "construction--structure--bridge",
    "construction--structure--tunnel",
    "nature--mountain",
    "nature--sand",
    "nature--snow",
    "nature--water",
    "object--banner",
    "object--bench",
    "object--bike-rack",
    "object--billboard",
    "object--cctv-camera",
    "object--fire-hydrant",
    "object--junction-box",
    "object--mailbox",
    "object--parking-meter",
    "object--phone-booth",
    "object--sign--advertisement",
    "object--sign--ambiguous",
    "object--sign--back",
    "object--sign--information",
    "object--sign--other",
    "object--sign--store",
    "object--street-light",
    "object--support--pole-group",
    "object--traffic-cone",
    "object--traffic-sign--ambiguous",
    "object--traffic-sign--back",
    "object--traffic-sign--direction-back",
    "object--traffic-sign--temporary-back",
    "object--trash-can",
    "object--vehicle--boat",
    "object--vehicle--caravan",
    "object--vehicle--other-vehicle",
    "object--vehicle--trailer",
    "object--vehicle--vehicle-group",
    "object--vehicle--wheeled-slow",
    "object--water-valve",
    "void--car-mount",
    "void--dynamic",
    "void--ego-vehicle",
    "void--ground",
    "void--static",
    "void--unlabeled",
)
"""The names that stay without a class."""

CLASS_ID = dict.fromkeys(WITHOUT_CLASS, IGNORE) | {
    name: class_id for class_id, known in enumerate(CITYSCAPES) for name in NAMES_OF[known.name]
}

LAYOUTS = (
    ("config_v2.0.json", "v2.0/labels"),
    ("config_v1.2.json", "v1.2/labels"),
    ("config.json", "labels"),
)
"""The config and the folder of its labels below that of the split. The first existing pair is read."""


class MapillaryVistas(LabelledFrames):
    """A split of Mapillary Vistas: `training|validation/images/*.jpg` and, beside `images`, the labels.

    Label files are palette PNGs with indices into the list `labels` of the config. v1.1 and v1.2 have `config.json` and
    `labels/`; v2.0 has `config_v2.0.json` and `v2.0/labels/` (or the same for v1.2).

    A name becomes the Cityscapes class that the authors of WildDash give it (`wd2_unified_label_policy.json` of
    https://github.com/ozendelait/wilddash_scripts; Zendel et al., CVPR 2022). Some names they divide among two classes:
    here curbs become sidewalk, bike lanes and manholes road, poles pole, and rail tracks and other vehicles 255. Names
    of v2.0 only become the class of the v1.2 name that they refine; if that is unclear they become 255. Both are
    choices of this project.

    Raises:
        ValueError: the config has classes of no known version.
    """

    title = "Mapillary Vistas"
    terms = "research edition, non-commercial"
    source = "https://www.mapillary.com/dataset/vistas"
    classes = CITYSCAPES
    splits = ("val", "train")

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        part = {"val": "validation", "train": "training"}[self.split_or_default(split)]
        root = self.existing(Path(folder))
        images = self.existing(root / part / "images")
        for config, below in LAYOUTS:
            labels = root / part / below
            if (root / config).is_file() and labels.is_dir():
                break
        else:
            pairs = ", ".join(f"{config} with {part}/{below}" for config, below in LAYOUTS)
            raise FileNotFoundError(f"{root}: none of {pairs}; {self.title} is available from {self.source}")
        self.label_map = _label_map(root / config)
        self.anomaly_map = inliers(self.label_map)
        super().__init__(
            images, (FramePaths(path.stem, path, labels / f"{path.stem}.png") for path in images_in(images))
        )


def _label_map(config: Path) -> dict[int, int]:
    try:
        names = [label["name"] for label in json.loads(config.read_text(encoding="utf-8"))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{config}: it must hold a list 'labels' of objects with a 'name' ({error!r})") from error
    unknown = [name for name in names if name not in CLASS_ID]
    if unknown:
        raise ValueError(
            f"{config}: class name(s) {', '.join(map(str, unknown))}; known are those of Mapillary Vistas v1.2 and v2.0"
        )
    return {index: CLASS_ID[name] for index, name in enumerate(names)}
