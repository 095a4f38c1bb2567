"""`sensor_msgs/CameraInfo`: as a message, and as plain data. Knows no ROS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ros_ood_perception.errors import PerceptionError

_RECTIFIED = re.compile(r"(.*_)?rect(ified)?(_.*)?", re.IGNORECASE)
"""A level of a topic's name: `image_rect`, `image_rect_color`, `rect`."""


class CameraError(PerceptionError, ValueError):
    """A calibration or pose that cannot be used. The message names the field, its value and the remedy."""


class RegionOfInterest(Protocol):
    """`sensor_msgs/RegionOfInterest`."""

    x_offset: int
    y_offset: int
    height: int
    width: int
    do_rectify: bool


class CameraInfoMessage(Protocol):
    """`sensor_msgs/CameraInfo`: the class of rclpy, that of `rosbags`, or `PlainCameraInfo`."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int

    @property
    def roi(self) -> RegionOfInterest: ...


@dataclass
class WholeImage:
    """A `RegionOfInterest` that is not set: the whole image."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass
class PlainCameraInfo:
    """A `CameraInfoMessage` without a message class. Its fields are not checked."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]
    binning_x: int = 0
    binning_y: int = 0
    roi: WholeImage = field(default_factory=WholeImage)


def not_rectified(image_topic: str, info: CameraInfoMessage) -> str:
    """The doubt whether raw images are expected where the topic's name says rectified; "" for none.

    image_proc publishes `image_rect` beside the camera_info of the raw image: its K and D are not those of the
    rectified image, its P is.

    >>> info = PlainCameraInfo(480, 640, "plumb_bob", (0.1, 0.0, 0.0, 0.0), (), (), ())
    >>> not_rectified("/front/image_raw", info)
    ''
    >>> not_rectified("/front/image_rect", info)[:60]
    '/front/image_rect is taken for raw images, and D of camera_i'
    """
    levels = image_topic.split("/")
    if not any(_RECTIFIED.fullmatch(level) for level in levels) or not any(info.d):
        return ""
    return (
        f"{image_topic} is taken for raw images, and D of camera_info is used, which is not zero; if the images are "
        "rectified, as the name says, obstacles are placed wrongly: set ground.rectified_images to true"
    )
