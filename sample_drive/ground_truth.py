"""What is known exactly about every frame of a drive, and the files that hold it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.obstacles.ground import CameraPose

TRUTH_FILE = "ground_truth.json"
FORMAT, VERSION = "ros_ood_perception/sample_drive", 1
"""As `ground_truth.json` names them."""
IMAGE_FOLDER, LABEL_FOLDER, ANOMALY_FOLDER, INSTANCE_FOLDER = "images", "labels", "labels_masks", "instances"

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""CamVid's eleven classes in the order of their ids, as `training.data.sets.camvid` reads them."""
CLASS_ID = {name: index for index, name in enumerate(CLASSES)}
VOID_ID = 11
"""Pixels of no class in the label files of CamVid's layout, among them unknown objects."""


@dataclass(frozen=True)
class VehiclePose:
    """Pose of `base_footprint` (on the ground below the vehicle, x forward, y left) in the drive's fixed frame `map`.

    Attributes:
        x, y: metres.
        heading: radians, counter-clockwise from the x axis of `map`.
        speed_mps: metres a second.
    """

    x: float
    y: float
    heading: float
    speed_mps: float


@dataclass(frozen=True)
class TrueObstacle:
    """An unknown object in front of the vehicle in one frame.

    Attributes:
        id: the same in every frame of the drive; also its value in `DriveFrame.instances`.
        kind: "tyre", "sofa", ...
        position: x, y, z of the centre of the footprint in `base_footprint`, metres.
        footprint: x, y (F, 2) corners of the convex outline on the ground in `base_footprint`, metres.
        height_m: of the object.
        range_m: from the point below the camera to the nearest point of the footprint.
        visible_pixels: number of pixels that show it; 0 where it is hidden or outside the image.
    """

    id: int
    kind: str
    position: tuple[float, float, float]
    footprint: tuple[tuple[float, float], ...]
    height_m: float
    range_m: float
    visible_pixels: int


@dataclass(frozen=True)
class DriveFrame:
    """One frame and the truth about it.

    Attributes:
        index: from 0.
        stamp_ns: time of the middle of the exposure, nanoseconds.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class ids, `VOID_ID` on unknown objects.
        anomaly: (H, W) bool, where an unknown object is seen.
        instances: (H, W) uint16, the id of the unknown object that is seen, 0 elsewhere.
        camera: calibrated, with distortion.
        camera_pose: of the optical frame in `base_footprint` in this frame: the body pitches and rolls a little.
        vehicle: pose of `base_footprint`.
        obstacles: unknown objects in front of the vehicle, the nearest first.
    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    anomaly: NDArray[np.bool_] = field(repr=False)
    instances: NDArray[np.uint16] = field(repr=False)
    camera: CameraModel
    camera_pose: CameraPose
    vehicle: VehiclePose
    obstacles: tuple[TrueObstacle, ...]
