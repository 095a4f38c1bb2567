"""The publishers of one camera: what somebody subscribes to is computed and published, under the frame's own header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from ros_ood_perception.bundle import BundleDescription
from ros_ood_perception.ground_map import GroundMap
from ros_ood_perception.node import obstacle_messages
from ros_ood_perception.node.image_messages import to_message
from ros_ood_perception.node.label_info import ANOMALY_ID, label_info, label_info_type
from ros_ood_perception.node.output_topics import ON_THE_GROUND, OUTPUT_TOPICS, camera_topic
from ros_ood_perception.node.qos_events import publisher_events
from ros_ood_perception.node.settings import LiveSettings
from ros_ood_perception.obstacle_cloud import free_points, obstacle_points
from ros_ood_perception.overlay import overlay_picture, score_picture
from ros_ood_perception.perception import FramePerception


class CameraOutputs:
    """Makes the publishers; `close` destroys them.

    Args:
        node: whose lifecycle the publishers follow.
        camera: name, or "".
        description: of the bundle.
        base_frame: of the vehicle, for what is placed on the ground.
    """

    def __init__(self, node: LifecycleNode, camera: str, description: BundleDescription, base_frame: str) -> None:
        self._node = node
        self._base_frame = base_frame
        self._description = description
        self._publishers: dict[str, LifecyclePublisher[Any]] = {}
        self._types: dict[str, type[Any] | None] = {
            "label_info": label_info_type(),
            "obstacle_detections": obstacle_messages.detections_type(),
            "obstacles": PointCloud2,
            "free_ground": PointCloud2,
            "ground_grid": OccupancyGrid,
            "obstacle_markers": MarkerArray,
        }
        self._announced: tuple[float, str] | None = None
        try:
            for name, topic in OUTPUT_TOPICS.items():
                kind = self._types.get(name, Image)
                if kind is not None:
                    self._publishers[name] = self._publisher(name, kind, camera_topic(camera, topic))
        except BaseException:
            self.close()
            raise

    def _publisher(self, name: str, kind: type[Any], topic: str) -> LifecyclePublisher[Any]:
        latched = name == "label_info"
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            # A profile for each: rclpy writes a topic's overrides into the object that it is given.
            QoSProfile(
                depth=1 if latched else 2,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            ),
            event_callbacks=publisher_events(self._node, topic),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def close(self) -> None:
        """Destroy the publishers."""
        publishers, self._publishers = self._publishers, {}
        for publisher in publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def subscriber_counts(self) -> dict[str, int]:
        """Topic to how many subscribe to it."""
        return {p.topic_name: p.get_subscription_count() for p in self._publishers.values()}

    def announce(self, live: LiveSettings, threshold: float, frame_id: str) -> None:
        """Publish the latched LabelInfo, if what it says is new."""
        publisher = self._publishers.get("label_info")
        if publisher is None or "label_info" not in live.outputs or self._announced == (threshold, frame_id):
            return
        stamp = self._node.get_clock().now().to_msg()
        publisher.publish(label_info(self._description, threshold, stamp, frame_id))
        self._announced = (threshold, frame_id)

    def wanted_on_the_ground(self, live: LiveSettings) -> bool:
        """Somebody subscribes to an output that needs the camera's place over the ground."""
        return any(name in ON_THE_GROUND for name in self._wanted(live))

    def _wanted(self, live: LiveSettings) -> list[str]:
        return [
            name
            for name, publisher in self._publishers.items()
            if name in live.outputs and name != "label_info" and publisher.get_subscription_count()
        ]

    def publish(
        self,
        header: Header,
        image: NDArray[np.uint8],
        result: FramePerception,
        live: LiveSettings,
        ground_map: Callable[[], GroundMap | None],
    ) -> None:
        """Publish a frame's results.

        Args:
            header: of the frame; every output carries its stamp, and its frame_id unless it is in the vehicle's frame.
            image: (H, W, 3) uint8 in the bundle's colour order.
            ground_map: gives the ground of this frame, or None where the camera's place over it is not known.
        """
        self.announce(live, result.anomaly_threshold, header.frame_id)
        for name in self._wanted(live):
            if name in ON_THE_GROUND:
                found = ground_map()
                # Nothing rather than an empty cloud: a planner would read that as a free road.
                if found is not None:
                    self._publishers[name].publish(self._on_the_ground(name, header, result, live, found))
            else:
                self._publishers[name].publish(self._message(name, header, image, result, live))

    def _on_the_ground(
        self, name: str, header: Header, result: FramePerception, live: LiveSettings, ground_map: GroundMap
    ) -> Any:
        placed = obstacle_messages.ground_header(header.stamp, self._base_frame)
        if name == "obstacles":
            return obstacle_messages.point_cloud(obstacle_points(result.obstacles, live.point_height_m), placed)
        if name == "free_ground":
            return obstacle_messages.point_cloud(free_points(ground_map.free_edge(result), live.point_height_m), placed)
        if name == "ground_grid":
            cells = ground_map.grid(result, result.obstacles)
            return obstacle_messages.occupancy_grid(cells, ground_map.grid_settings, placed)
        if name == "obstacle_markers":
            return obstacle_messages.markers(result.obstacles, placed)
        raise KeyError(name)

    def _message(
        self, name: str, header: Header, image: NDArray[np.uint8], result: FramePerception, live: LiveSettings
    ) -> Any:
        if name == "obstacle_detections":
            return obstacle_messages.detections(result.obstacles, header)
        if name == "semantic_mask":
            return to_message(result.semantic, "mono8", header)
        if name == "semantic_mask_with_anomaly":
            return to_message(np.where(result.anomaly_mask, np.uint8(ANOMALY_ID), result.semantic), "mono8", header)
        if name == "semantic_confidence":
            return to_message(score_to_mono8(np.float32(1) - result.anomaly_score), "mono8", header)
        if name == "anomaly_mask":
            return to_message(result.anomaly_mask.astype(np.uint8) * np.uint8(255), "mono8", header)
        if name == "anomaly_score":
            score = result.anomaly_score if live.score_encoding == "32FC1" else score_to_mono8(result.anomaly_score)
            return to_message(score, live.score_encoding, header)
        if name == "anomaly_heat_map":
            return to_message(score_picture(result.anomaly_score), "rgb8", header)
        if name == "overlay":
            rgb = image if self._description.input.colour_order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            picture = overlay_picture(rgb, result.semantic, result.anomaly_mask, self._description.colours)
            return to_message(picture, "rgb8", header)
        raise KeyError(name)


def score_to_mono8(score: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Anomaly score (H, W) float32 in [0, 1] to the nearest of 256 grey levels."""
    return np.rint(score * np.float32(255)).astype(np.uint8)
