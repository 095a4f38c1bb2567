"""`sensor_msgs/CameraInfo`: as a message, and as plain data. Knows no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ros_ood_perception.errors import PerceptionError


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
