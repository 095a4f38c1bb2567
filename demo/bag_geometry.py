"""Where the camera of a bag is over the ground, if the bag says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.camera.camera_model import CameraError, CameraModel
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.recordings.frame_source import BagTopic, FrameSource
from ros_ood_perception.replay.inputs import open_input

BASE_FRAME = "base_link"


@dataclass(frozen=True)
class BagGeometry:
    """A calibrated camera with a place on the vehicle.

    Attributes:
        image_topic: of the camera in the bag; its camera_info is beside it.
        mounting: for the node's parameters `mounting.*`.
        ground: as the node has it with these parameters.
    """

    image_topic: str
    mounting: dict[str, float]
    ground: GroundProjection

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the node: the pose, which tf2 gives on a vehicle. tf2_ros is not installed everywhere."""
        return {f"mounting.{name}": [value] for name, value in self.mounting.items()}


def bag_geometry(path: Path, source: FrameSource) -> BagGeometry | None:
    """From the first camera_info beside the played topic and the bag's /tf_static; None where one of them is missing.

    Args:
        path: of the bag.
        source: as opened from it.
    """
    first = next(iter(source), None)
    if not isinstance(source, BagTopic) or first is None:
        return None
    opened = open_input(path, [source.topic], 1.0)
    info = opened.first_infos.get(0)
    if info is None:
        return None
    try:
        mounting = opened.transforms.pose(first.frame_id, BASE_FRAME).as_mounting()
        camera = CameraModel.from_camera_info(info, (first.height, first.width), False)
        return BagGeometry(source.topic, mounting, GroundProjection(camera, CameraPose.from_mounting(**mounting)))
    except CameraError:
        return None
