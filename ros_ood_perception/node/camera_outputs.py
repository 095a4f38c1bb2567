"""The publishers of one camera: what somebody subscribes to is computed and published, under the frame's own header."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_ood_perception.bundle import BundleDescription
from ros_ood_perception.node.image_messages import to_message
from ros_ood_perception.node.label_info import ANOMALY_ID, label_info, label_info_type
from ros_ood_perception.node.output_topics import OUTPUT_TOPICS, camera_topic
from ros_ood_perception.node.parameters import LiveSettings
from ros_ood_perception.node.qos_events import publisher_events
from ros_ood_perception.overlay import overlay_picture
from ros_ood_perception.perception import FramePerception


class CameraOutputs:
    """Makes the publishers; `close` destroys them.

    Args:
        node: whose lifecycle the publishers follow.
        camera: name, or "".
        description: of the bundle.
    """

    def __init__(self, node: LifecycleNode, camera: str, description: BundleDescription) -> None:
        self._node = node
        self._description = description
        self._publishers: dict[str, LifecyclePublisher[Any]] = {}
        self._label_info_type = label_info_type()
        self._announced: tuple[float, str] | None = None
        try:
            for name, topic in OUTPUT_TOPICS.items():
                if name == "label_info" and self._label_info_type is None:
                    continue
                self._publishers[name] = self._publisher(name, camera_topic(camera, topic))
        except BaseException:
            self.close()
            raise

    def _publisher(self, name: str, topic: str) -> LifecyclePublisher[Any]:
        latched = name == "label_info"
        return self._node.create_lifecycle_publisher(
            self._label_info_type if latched else Image,
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

    def publish(self, header: Header, image: NDArray[np.uint8], result: FramePerception, live: LiveSettings) -> None:
        """Publish a frame's results.

        Args:
            header: of the frame; every output carries it.
            image: (H, W, 3) uint8 in the bundle's colour order.
        """
        self.announce(live, result.anomaly_threshold, header.frame_id)
        for name, publisher in self._publishers.items():
            if name == "label_info" or name not in live.outputs or not publisher.get_subscription_count():
                continue
            publisher.publish(self._message(name, header, image, result, live))

    def _message(
        self, name: str, header: Header, image: NDArray[np.uint8], result: FramePerception, live: LiveSettings
    ) -> Image:
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
        if name == "overlay":
            rgb = image if self._description.input.colour_order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            picture = overlay_picture(rgb, result.semantic, result.anomaly_mask, self._description.colours)
            return to_message(picture, "rgb8", header)
        raise KeyError(name)


def score_to_mono8(score: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Anomaly score (H, W) float32 in [0, 1] to the nearest of 256 grey levels."""
    return np.rint(score * np.float32(255)).astype(np.uint8)
