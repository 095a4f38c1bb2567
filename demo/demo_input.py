"""The input of a demo run: frames, geometry of the camera, truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.bag_geometry import BagGeometry, bag_geometry
from demo.played_frames import PlayedFrames, open_frames
from demo.rendered_drive import ODOMETRY_TOPIC
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.replay.transforms.recorded_motion import ODOMETRY_TYPE
from sample_drive.drive_truth import DriveTruth


class DemoError(PerceptionError, RuntimeError):
    """The demo cannot continue. The message says at which step, and where to look."""


@dataclass(frozen=True)
class DemoInput:
    """The played frames.

    Attributes:
        path: of the frames or the bag.
        geometry: of the camera; None where obstacles have no place on the ground.
        truth: of a sample drive; None for other frames.
        odometry: topic of the drive's odometry; "": there is none, as in other frames.
    """

    path: Path
    frames: PlayedFrames
    geometry: BagGeometry | None
    truth: DriveTruth | None
    odometry: str = ""


def open_demo_input(path: Path, topic: str | None, truth: DriveTruth | None) -> DemoInput:
    """Open the frames and find the camera's geometry.

    Raises:
        PerceptionError: nothing there that can be played, or a drive without its geometry.
    """
    frames = open_frames(path, topic)
    geometry = bag_geometry(frames)
    if truth is not None and geometry is None:
        raise DemoError(f"{path}: the drive's bag lacks camera_info or /tf_static; render the drive again")
    recorded = Bag(path).types.get(ODOMETRY_TOPIC) == ODOMETRY_TYPE if truth is not None else False
    return DemoInput(path, frames, geometry, truth, ODOMETRY_TOPIC if recorded else "")
