"""The subscriptions of one camera: its images and its camera_info."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ros_ood_perception.messages.topics import CAMERA_INFO_TOPIC, INPUT_TOPICS, camera_topic
from ros_ood_perception.node.frames.accounting import FrameAccounting
from ros_ood_perception.node.frames.losses import WINDOW_S, Losses, LossWindow
from ros_ood_perception.node.health.logged_kinds import LoggedKinds
from ros_ood_perception.node.middleware.qos_events import subscription_events
from ros_ood_perception.node.middleware.transport import SharedMemory

if TYPE_CHECKING:
    # Kilted is the first distribution that has it.
    from rclpy.subscription import MessageInfo


class CameraInput:
    """Receives the messages of one camera, on the executor's thread.

    Args:
        node: the node that subscribes.
        camera: its name, or "" for the camera without a name.
        transport: `raw` or `compressed`.
        accounting: counts received messages and gaps in their numbering.
        kinds: logs messages that are too large for the transport.
        memory: what the transport can carry.
        info_topic: of the calibration; "": `input/camera_info`; None: no topic has it.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        transport: str,
        accounting: FrameAccounting,
        kinds: LoggedKinds,
        memory: SharedMemory,
        info_topic: str | None = "",
    ) -> None:
        self._node = node
        self._transport = transport
        self._type: type[Image | CompressedImage] = CompressedImage if transport == "compressed" else Image
        self._image_topic = camera_topic(camera, INPUT_TOPICS[transport])
        self._info_topic = camera_topic(camera, CAMERA_INFO_TOPIC) if info_topic == "" else info_topic
        self._accounting = accounting
        self._kinds = kinds
        self._memory = memory
        self._images: Subscription[Any] | None = None
        self._infos: Subscription[CameraInfo] | None = None
        self._numbers_reset = False
        self._largest_bytes = 0
        self._window = LossWindow()

    def listen(
        self, take_image: Callable[[Image | CompressedImage, float], None], take_info: Callable[[CameraInfo], None]
    ) -> str:
        """Subscribe; returns the full name of the images' topic.

        Args:
            take_image: called with each image message and its time of arrival (monotonic clock, seconds).
            take_info: called with each camera_info.
        """
        self._accounting.forget_publishers()
        self._window.restart()

        # Only the subscriptions keep these callbacks. Kept in this object, they would make a reference cycle with their
        # owner, and its memory would be freed late.
        def with_info(message: Any, info: MessageInfo | None) -> None:
            received_at = time.monotonic()
            publisher, number = self._numbering(info)
            self._accounting.receive(publisher, number)
            self._check_transport(len(message.data))
            take_image(message, received_at)

        def without_info(message: Any) -> None:
            with_info(message, None)

        # Humble's callbacks do not get the message's sequence number.
        callback = with_info if hasattr(Subscription, "CallbackType") else without_info
        self._images = self._node.create_subscription(
            self._type,
            self._image_topic,
            callback,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            event_callbacks=subscription_events(self._node, self._image_topic, self._accounting.lose, self._on_matched),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        if self._info_topic is not None:
            self._infos = self._node.create_subscription(
                CameraInfo,
                self._info_topic,
                take_info,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        return str(self._images.topic_name)

    def stop(self) -> None:
        """Destroy the subscriptions: no message comes any more."""
        subscriptions, self._images, self._infos = (self._infos, self._images), None, None
        for subscription in subscriptions:
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    def no_camera_info(self) -> str:
        """The problem to report while no camera_info has come."""
        if self._info_topic is None:
            return "no camera_info is known"
        return (
            f"nothing has come on {self._node.resolve_topic_name(self._info_topic)}; remap {self._info_topic}, or set "
            "calibration.camera_info_topic or calibration.file"
        )

    def why_nothing_comes(self, cause_is_known: bool = False) -> str:
        """Why no image arrives, as far as the graph shows it; empty while nothing is subscribed.

        Args:
            cause_is_known: `loss_problem` names the cause, so it is not named here too.
        """
        images = self._images
        if images is None:
            return ""
        topic = images.topic_name
        publishers = self._node.get_publishers_info_by_topic(topic)
        wanted = self._type.__name__
        others = sorted({info.topic_type for info in publishers if not info.topic_type.endswith(f"/{wanted}")})
        if others:
            return (
                f"{topic} is published as {', '.join(others)}, and {wanted} is expected: remap "
                f"{INPUT_TOPICS[self._transport]} or set image_transport"
            )
        if not publishers:
            return f"nobody publishes on {topic}: start the camera, or remap {topic} to its topic"
        hint = "" if cause_is_known else self._memory.hint(self._largest_bytes)
        return f"{len(publishers)} publishers on {topic}, but none of their frames arrives{hint}"

    def recent_losses(self, now: float) -> Losses:
        """The losses of the last seconds. To be called every second or so, on any thread.

        Args:
            now: time of a monotonic clock, seconds.
        """
        return self._window.look(now, self._accounting.losses())

    def loss_problem(self, losses: Losses) -> str:
        """How many frames were lost lately, the likely cause and the remedy; empty if there are few."""
        if not losses.too_many:
            return ""
        if losses.overwritten > losses.by_middleware and not losses.replaced:
            why = (
                "likely cause: this process gets too little CPU time. Remedy: fewer num_threads, real-time priority, "
                "or reserved cores (taskset)"
            )
        else:
            why = self._memory.why_lost(self._largest_bytes)
        return (
            f"{losses.lost} of {losses.lost + losses.received} frames of the last {WINDOW_S:.0f} s did not arrive "
            f"({losses.share:.0%}); {why}"
        )

    def _on_matched(self) -> None:
        # Jazzy does not give the publisher of a number, so numbering restarts after a publisher came or went.
        self._numbers_reset = True

    def _numbering(self, info: MessageInfo | None) -> tuple[bytes, int | None]:
        """The publisher of a message and its number there; (b"", None) where that cannot be known."""
        if info is None:
            return b"", None
        number = info.get("publication_sequence_number")
        gid = info.get("publisher_gid")
        if gid is not None:
            return bytes(gid["data"]), number
        if self._numbers_reset:
            self._numbers_reset = False
            self._accounting.forget_publishers()
        # With one publisher there is no question whose number it is.
        alone = self._images is not None and self._node.count_publishers(self._images.topic_name) == 1
        return b"", number if alone else None

    def _check_transport(self, size: int) -> None:
        if size <= self._largest_bytes:
            return
        self._largest_bytes = size
        if problem := self._memory.problem_of("a frame of the camera", size):
            self._kinds.add("frame larger than the transport's segment", problem)
