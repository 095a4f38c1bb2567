"""The publishers of one camera. Outputs without subscribers are skipped, except the latched `label_info`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.messages.label_info import label_info
from ros_ood_perception.messages.results import IMAGE, TYPES, result_message
from ros_ood_perception.messages.topics import OUTPUT_TOPICS, camera_topic
from ros_ood_perception.node.middleware.message_classes import message_class, new_message
from ros_ood_perception.node.middleware.qos_events import publisher_events
from ros_ood_perception.parameters.settings import LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import FrameResult


def has_vision_msgs() -> bool:
    """Whether vision_msgs is installed. Without it, the outputs that need it are left out."""
    try:
        message_class("vision_msgs/msg/LabelInfo")
    except ImportError:
        return False
    return True


class CameraOutputs:
    """The publishers of one camera, which exist until `close`.

    Args:
        node: whose lifecycle the publishers follow.
        camera: its name, or "" for the camera without a name.
        description: the bundle's description.
        base_frame: frame_id of what is placed on the ground.
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
            # One profile each: rclpy writes a topic's overrides into the object that it is given.
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
        """Topic to number of subscribers."""
        return {p.topic_name: p.get_subscription_count() for p in self._publishers.values()}

    def announce(self, live: LiveSettings, threshold: float, frame_id: str) -> None:
        """Publish the latched LabelInfo, unless it is the same as the last one."""
        publisher = self._publishers.get("label_info")
        if publisher is None or "label_info" not in live.outputs or self._announced == (threshold, frame_id):
            return
        stamp = self._node.get_clock().now().to_msg()
        header = new_message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)
        publisher.publish(label_info(new_message, self._description, threshold, header))
        self._announced = (threshold, frame_id)

    def wanted(self, live: LiveSettings) -> list[str]:
        """Names of the outputs in `live` that have subscribers, without the latched `label_info`."""
        return list(self._wanted(live))

    def any_wanted(self, live: LiveSettings) -> bool:
        """Whether `wanted` names any. It asks the middleware only until one is found."""
        return any(True for _ in self._wanted(live))

    def _wanted(self, live: LiveSettings) -> Iterator[str]:
        for name, publisher in self._publishers.items():
            if name in live.outputs and name != "label_info" and publisher.get_subscription_count():
                yield name

    def publish(self, header: Header, result: FrameResult, live: LiveSettings) -> tuple[list[str], int]:
        """Publish a frame's results.

        Args:
            header: the frame's header.
            result: the frame's results.
            live: says which outputs are published, and in which encoding.

        Returns:
            Names of the outputs in `live` that have subscribers, and the number of messages that were published. An
            output that cannot be placed on the ground has subscribers and no message.
        """
        self.announce(live, result.perception.anomaly_threshold, header.frame_id)
        wanted, messages = self.wanted(live), 0
        settings = live.output_settings(self._base_frame)
        for name in wanted:
            message = result_message(new_message, name, header, result, self._description, settings)
            if message is not None:
                self._publishers[name].publish(message)
                messages += 1
        return wanted, messages
