"""The publishers of one camera: what somebody subscribes to is computed and published, under the frame's own header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.messages.label_info import label_info
from ros_ood_perception.messages.obstacles import ground_header
from ros_ood_perception.messages.results import IMAGE, TYPES, ground_message, picture_message
from ros_ood_perception.messages.topics import OF_OBSTACLES, ON_THE_GROUND, OUTPUT_TOPICS, camera_topic
from ros_ood_perception.node.middleware.message_classes import message_class, new_message
from ros_ood_perception.node.middleware.qos_events import publisher_events
from ros_ood_perception.obstacles.ground_map import GroundMap
from ros_ood_perception.parameters.settings import LiveSettings


def has_vision_msgs() -> bool:
    """Whether vision_msgs is installed: it is not everywhere, and what needs it is left out then."""
    try:
        message_class("vision_msgs/msg/LabelInfo")
    except ImportError:
        return False
    return True


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
        self._announced: tuple[float, str] | None = None
        try:
            known = has_vision_msgs()
            for name, topic in OUTPUT_TOPICS.items():
                kind = TYPES.get(name, IMAGE)
                if known or not kind.startswith("vision_msgs/"):
                    self._publishers[name] = self._publisher(name, message_class(kind), camera_topic(camera, topic))
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

    def topics(self) -> list[str]:
        """Full names of what is published."""
        return [str(p.topic_name) for p in self._publishers.values()]

    def subscriber_counts(self) -> dict[str, int]:
        """Topic to how many subscribe to it."""
        return {p.topic_name: p.get_subscription_count() for p in self._publishers.values()}

    def announce(self, live: LiveSettings, threshold: float, frame_id: str) -> None:
        """Publish the latched LabelInfo, if what it says is new."""
        publisher = self._publishers.get("label_info")
        if publisher is None or "label_info" not in live.outputs or self._announced == (threshold, frame_id):
            return
        stamp = self._node.get_clock().now().to_msg()
        header = new_message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)
        publisher.publish(label_info(new_message, self._description, threshold, header))
        self._announced = (threshold, frame_id)

    def wanted_on_the_ground(self, live: LiveSettings) -> bool:
        """Somebody subscribes to an output that needs the camera's place over the ground."""
        return any(name in ON_THE_GROUND for name in self._wanted(live))

    def wanted_obstacles(self, live: LiveSettings) -> bool:
        """Somebody subscribes to an output that has nothing in it until a region persists."""
        return any(name in OF_OBSTACLES for name in self._wanted(live))

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
                    placed = ground_header(new_message, header.stamp, self._base_frame)
                    message = ground_message(new_message, name, placed, result, found, live.point_height_m)
                    self._publishers[name].publish(message)
            else:
                message = picture_message(
                    new_message, name, header, image, result, self._description, live.score_encoding
                )
                self._publishers[name].publish(message)
