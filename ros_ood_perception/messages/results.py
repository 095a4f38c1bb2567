"""A frame's results as messages, one for each name in `OUTPUT_TOPICS`. The node publishes them, a replay writes them.
Knows no ROS."""

from __future__ import annotations

import array
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.messages import obstacles as obstacle_messages
from ros_ood_perception.messages.label_info import ANOMALY_ID
from ros_ood_perception.messages.message_factory import NewMessage
from ros_ood_perception.messages.overlay import overlay_picture, score_picture
from ros_ood_perception.messages.topics import OF_OBSTACLES, ON_THE_GROUND
from ros_ood_perception.obstacles.point_cloud import free_points, obstacle_points
from ros_ood_perception.pipeline.camera_pipeline import FrameResult, FrameWarnings

IMAGE = "sensor_msgs/msg/Image"
TYPES = {
    "label_info": "vision_msgs/msg/LabelInfo",
    "obstacle_detections": "vision_msgs/msg/Detection2DArray",
    "obstacles": "sensor_msgs/msg/PointCloud2",
    "free_ground": "sensor_msgs/msg/PointCloud2",
    "ground_grid": "nav_msgs/msg/OccupancyGrid",
    "obstacle_markers": "visualization_msgs/msg/MarkerArray",
}
"""Message type by output name; every other output is an `IMAGE`."""


def image_message(new: NewMessage, image: NDArray[Any], encoding: str, header: Any) -> Any:
    """An array as `sensor_msgs/Image`.

    Args:
        image: (H, W) or (H, W, C) uint8 or float32.
        encoding: what the array holds (`mono8`, `rgb8`, `32FC1`).
    """
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return new(
        IMAGE,
        header=header,
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        step=image.shape[1] * image.itemsize * (image.shape[2] if image.ndim == 3 else 1),
        data=data,
    )


def score_to_mono8(score: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Anomaly score (H, W) float32 in [0, 1], rounded to 256 grey levels."""
    return np.rint(score * np.float32(255)).astype(np.uint8)


def picture_output(
    name: str,
    image: NDArray[np.uint8],
    result: FramePerception,
    description: BundleDescription,
    score_encoding: str,
) -> tuple[NDArray[Any], str]:
    """The pixels of an image output, and their encoding.

    Args:
        name: of `OUTPUT_TOPICS`, and an image.
        image: (H, W, 3) uint8 in the bundle's colour order.
        score_encoding: of `anomaly_score`: `mono8` or `32FC1`.

    Raises:
        KeyError: the output is no image.
    """
    if name == "semantic_mask":
        return result.semantic, "mono8"
    if name == "semantic_mask_with_anomaly":
        return np.where(result.anomaly_mask, np.uint8(ANOMALY_ID), result.semantic), "mono8"
    if name == "semantic_confidence":
        return score_to_mono8(np.float32(1) - result.anomaly_score), "mono8"
    if name == "anomaly_mask":
        return result.anomaly_mask.astype(np.uint8) * np.uint8(255), "mono8"
    if name == "anomaly_score":
        score = result.anomaly_score
        return (score if score_encoding == "32FC1" else score_to_mono8(score)), score_encoding
    if name == "anomaly_heat_map":
        return score_picture(result.anomaly_score), "rgb8"
    if name == "overlay":
        rgb = image if description.input.colour_order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return overlay_picture(rgb, result.semantic, result.anomaly_mask, description.colours), "rgb8"
    raise KeyError(name)


@dataclass(frozen=True)
class OutputSettings:
    """How results are written into messages.

    Attributes:
        score_encoding: of `anomaly_score`: `mono8` or `32FC1`.
        point_height_m: height of points over the ground, metres.
        base_frame: frame_id of what is on the ground.
    """

    score_encoding: str
    point_height_m: float
    base_frame: str


def result_message(
    new: NewMessage,
    name: str,
    header: Any,
    result: FrameResult,
    description: BundleDescription,
    settings: OutputSettings,
) -> Any | None:
    """One output of a frame; None for an output on the ground while the camera's place over it is not known.

    None and not an empty cloud: a planner would read that as a free road.

    Args:
        name: of `OUTPUT_TOPICS`, but not `label_info`, which is not of a frame.
        header: of the frame. Every output carries its stamp, and its frame_id unless it is on the ground.
        description: of the bundle.
    """
    if name not in ON_THE_GROUND:
        return _picture_message(new, name, header, result, description, settings.score_encoding)
    if result.ground is None:
        return None
    placed = obstacle_messages.ground_header(new, header.stamp, settings.base_frame)
    return _ground_message(new, name, placed, result, settings.point_height_m)


def warnings_for_outputs(warnings: FrameWarnings, names: Collection[str]) -> FrameWarnings:
    """The warnings that matter to these outputs, which are names of `OUTPUT_TOPICS`."""
    return replace(
        warnings,
        no_place=warnings.no_place if ON_THE_GROUND.intersection(names) else "",
        too_far_apart=warnings.too_far_apart if OF_OBSTACLES.intersection(names) else "",
        no_motion=warnings.no_motion if OF_OBSTACLES.intersection(names) else "",
    )


def _picture_message(
    new: NewMessage,
    name: str,
    header: Any,
    result: FrameResult,
    description: BundleDescription,
    score_encoding: str,
) -> Any:
    """An output in the picture, under the frame's own header: an image, or the obstacles' boxes."""
    if name == "obstacle_detections":
        return obstacle_messages.detections(new, result.obstacles, header)
    pixels, encoding = picture_output(name, result.image, result.perception, description, score_encoding)
    return image_message(new, pixels, encoding, header)


def _ground_message(new: NewMessage, name: str, header: Any, result: FrameResult, point_height_m: float) -> Any:
    """An output of `ON_THE_GROUND` of a frame with a ground, under a header in the vehicle's frame."""
    if name == "obstacles":
        return obstacle_messages.point_cloud(new, obstacle_points(result.obstacles, point_height_m), header)
    if name == "obstacle_markers":
        return obstacle_messages.markers(new, result.obstacles, header)
    ground_map = result.ground_map  # costly after every change of the camera's pose, so only where it is shown
    assert ground_map is not None
    if name == "free_ground":
        edge = ground_map.free_edge(result.perception)
        return obstacle_messages.point_cloud(new, free_points(edge, point_height_m), header)
    if name == "ground_grid":
        cells = ground_map.grid(result.perception, result.obstacles)
        return obstacle_messages.occupancy_grid(new, cells, ground_map.grid_settings, header)
    raise KeyError(name)
