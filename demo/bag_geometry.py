"""Where the camera of a bag is over the ground, if the bag says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from demo.played_frames import PlayedFrames
from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection

BASE_FRAME = "base_link"


@dataclass(frozen=True)
class BagGeometry:
    """A calibrated camera with a pose on the vehicle.

    Attributes:
        image_topic: of the camera in the bag; its camera_info is beside it.
        mounting: for the node's parameters `mounting.*`.
        ground: as the node computes it with these parameters.
    """

    image_topic: str
    mounting: dict[str, float]
    ground: GroundProjection

    @property
    def parameters(self) -> dict[str, Any]:
        """The pose as parameters of the node. On a vehicle tf2 gives it; here tf2_ros need not be installed."""
        return {f"mounting.{name}": [value] for name, value in self.mounting.items()}


def bag_geometry(frames: PlayedFrames) -> BagGeometry | None:
    """From the first camera_info beside the played topic and the bag's /tf_static; None where one is missing."""
    info = frames.source.first_infos.get(0)
    first = next(iter(frames), None)
    if frames.topic is None or info is None or first is None:
        return None
    try:
        mounting = frames.source.transforms.pose(first.message.header.frame_id, BASE_FRAME).as_mounting()
        height, width = frames.colour(first.message, "rgb").shape[:2]
        camera = CameraModel.from_camera_info(info, (height, width), False)
        return BagGeometry(frames.topic, mounting, GroundProjection(camera, CameraPose.from_mounting(**mounting)))
    except (CameraError, MalformedImageError):
        return None
