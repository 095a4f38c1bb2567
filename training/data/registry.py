"""The data sets by name. A new set needs a file in `training/data/sets/` and a line in `DATA_SETS`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from training.data.held_out import HeldOut
from training.data.labelled_frames import LabelledFrames
from training.data.sets.bdd100k import Bdd100k
from training.data.sets.camvid import CamVid
from training.data.sets.camvid_static import CamVidStatic
from training.data.sets.cityscapes import Cityscapes
from training.data.sets.fishyscapes_lostandfound import FishyscapesLostAndFound
from training.data.sets.fishyscapes_static import FishyscapesStatic
from training.data.sets.folder import Folder
from training.data.sets.images_and_masks import ImagesAndMasks
from training.data.sets.kitti import Kitti
from training.data.sets.mapillary_vistas import MapillaryVistas
from training.data.sets.road_anomaly import RoadAnomaly
from training.data.sets.sample_drive import SampleDrive, SampleDriveTest
from training.data.sets.smiyc import SmiycAnomaly, SmiycObstacle
from training.data.sets.smiyc_lostandfound import SmiycLostAndFound
from training.data.sets.streethazards import StreetHazards, StreetHazardsTest
from training.data.sets.wilddash2 import WildDash2


class DataSet(Protocol):
    """A registered set: a `LabelledFrames` subclass, called with a folder and a split.

    The split None is the folder itself, or the set's first split.
    """

    def __call__(self, folder: Path, split: str | None = None, /) -> LabelledFrames: ...


DATA_SETS: dict[str, DataSet] = {
    "bdd100k": Bdd100k,
    "camvid": CamVid,
    "camvid_static": CamVidStatic,
    "cityscapes": Cityscapes,
    "fishyscapes_lostandfound": FishyscapesLostAndFound,
    "fishyscapes_static": FishyscapesStatic,
    "folder": Folder,
    "images_and_masks": ImagesAndMasks,
    "kitti": Kitti,
    "mapillary_vistas": MapillaryVistas,
    "road_anomaly": RoadAnomaly,
    "sample_drive": SampleDrive,
    "sample_drive_test": SampleDriveTest,
    "smiyc_anomaly": SmiycAnomaly,
    "smiyc_lostandfound": SmiycLostAndFound,
    "smiyc_obstacle": SmiycObstacle,
    "streethazards": StreetHazards,
    "streethazards_test": StreetHazardsTest,
    "wilddash2": WildDash2,
}


def registered(name: str) -> str:
    """The registered name for `name`: itself, or the longest one that `name` extends by `_WORD`.

    Such names tell several folders of one set apart.

    >>> registered("camvid_night")
    'camvid'

    Raises:
        ValueError: there is no such set; the message lists all sets.
    """
    fitting = [known for known in DATA_SETS if name == known or name.startswith(f"{known}_")]
    if not fitting:
        raise ValueError(
            f"there is no data set '{name}'; there are {', '.join(sorted(DATA_SETS))} (each may be followed by _WORD)"
        )
    return max(fitting, key=len)


def open_training_frames(name: str, folder: Path | str, split: str, held_out: Sequence[str] = ()) -> LabelledFrames:
    """Frames of known classes: a split of a set with classes, without the frames that show a held-out class.

    Raises:
        ValueError: no such set, split or class, or a set without classes.
        FileNotFoundError: its folders are not there.
    """
    frames = _frames_of_classes(name, folder, split)
    return HeldOut(frames, held_out).training if held_out else frames


def open_validation_frames(name: str, folder: Path | str, split: str, held_out: Sequence[str] = ()) -> LabelledFrames:
    """Frames for validation: a split of a set with classes, without those that `HeldOut.validation` leaves out.

    Raises:
        ValueError: no such set, split or class, or a set without classes.
        FileNotFoundError: its folders are not there.
    """
    frames = _frames_of_classes(name, folder, split)
    return HeldOut(frames, held_out).validation if held_out else frames


def _frames_of_classes(name: str, folder: Path | str, split: str) -> LabelledFrames:
    frames = open_data_set(name, folder, split)
    if not frames.classes:
        raise ValueError(f"{frames.title} has no classes to learn")
    return frames


def open_data_set(name: str, folder: Path | str, split: str | None = None) -> LabelledFrames:
    """The frames of a registered set.

    Raises:
        ValueError: no such set, or no such split.
        FileNotFoundError: its folders are not there.
    """
    return DATA_SETS[registered(name)](Path(folder), split)
