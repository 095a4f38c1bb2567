"""What the node reports about itself: /diagnostics, and warnings about what its environment lacks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from ros_ood_perception.bundle.description import BundleDescription
from ros_ood_perception.launching.transport_environment import profile_variables
from ros_ood_perception.node.camera import Camera
from ros_ood_perception.node.camera_outputs import has_vision_msgs
from ros_ood_perception.node.configured import Configured
from ros_ood_perception.node.health.diagnostics import diagnostic_array, status, twins_status
from ros_ood_perception.node.health.health import CameraHealth
from ros_ood_perception.node.health.watchdog import Watchdog
from ros_ood_perception.node.middleware.name_twins import TwinSearch
from ros_ood_perception.node.middleware.transport import FIX, SharedMemory, looks_up_types
from ros_ood_perception.parameters.settings import LiveSettings


def is_fast_dds() -> bool:
    """Whether the node's middleware is Fast DDS."""
    return rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps")


class NodeReport:
    """Publishes /diagnostics, also while the node is not configured.

    Args:
        node: the node that publishes.
        watchdog: watches the calls of the engine.

    Attributes:
        published_at: when it was last published, on the monotonic clock in seconds.
    """

    def __init__(self, node: Node, watchdog: Watchdog) -> None:
        self._node = node
        self._watchdog = watchdog
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._twins = TwinSearch(node, node.get_logger().error)
        self.published_at = 0.0

    def publish(self, configured: Configured | None, live: LiveSettings | None) -> None:
        """Publish the state of each camera, where its frames went, and how long the stages took."""
        self.published_at = time.monotonic()
        stamp = self._node.get_clock().now().to_msg()
        if configured is None or live is None:
            statuses = [*self._twins_statuses(()), self._not_configured()]
        else:
            facts = self._facts(configured, live)
            statuses = self._twins_statuses(configured.cameras)
            for camera in configured.cameras:
                statuses.append(camera.report(live, facts))
                camera.publish_state(live)
        self._publisher.publish(diagnostic_array(stamp, statuses))

    def _not_configured(self) -> DiagnosticStatus:
        work = self._watchdog.watch.work
        health = CameraHealth("inactive", work.what if work else "the node is not configured")
        if self._watchdog.stuck:
            health = CameraHealth("failed", self._watchdog.stuck)
        return status(self._title, self._node.get_name(), health, {})

    def _facts(self, configured: Configured, live: LiveSettings) -> dict[str, str | float]:
        """What holds for all cameras."""
        description, supervisor = configured.bundle.description, configured.supervisor
        facts: dict[str, str | float] = {
            "engine": supervisor.name,
            "engine_open": str(supervisor.is_open).lower(),
            "engine_failures": supervisor.failures,
            "engine_reopened": supervisor.reopened,
            "inference_deadline_s": supervisor.deadline_s(),
            "bundle": description.name,
            "model_sha256": description.model_sha256,
            "input_sizes": description.input.sizes_text,
            "score_temperature": repr(description.score.temperature),
            "operating_point": _operating_point(live, description),
            "anomaly_threshold": repr(live.threshold(description)),
            **live.in_force(description).facts(),
        }
        if configured.motion is not None:
            facts |= {f"refused: {kind}": count for kind, count in configured.motion.counts().items()}
        if self._node.get_parameter("use_sim_time").value and not self._node.get_clock().now().nanoseconds:
            facts["clock"] = "use_sim_time is set, but nothing has come on /clock (ros2 bag play --clock)"
        return facts

    @property
    def _title(self) -> str:
        return self._node.get_fully_qualified_name().lstrip("/")

    def _twins_statuses(self, cameras: Sequence[Camera]) -> list[DiagnosticStatus]:
        twins = self._twins.look([topic for camera in cameras for topic in camera.outputs.topics()])
        return [twins_status(self._title, self._node.get_name(), twins)] if twins else []


def _operating_point(live: LiveSettings, description: BundleDescription) -> str:
    """The name of the operating point in use."""
    name = live.point(description).name
    return name if live.anomaly_threshold is None else f"{name}, but anomaly_threshold is set"


def environment_problems(memory: SharedMemory) -> Iterator[str]:
    """What the environment of this process lacks, each with its remedy.

    Args:
        memory: what the transport can carry.
    """
    if (
        is_fast_dds()
        and not any(os.environ.get(name) for name in profile_variables(os.environ))
        and memory.segment_bytes
    ):
        yield (
            f"no Fast DDS profile is in force ({memory.source}): images above {memory.segment_bytes // 1024} KB may be "
            f"lost silently. Remedy: {FIX}"
        )
    if looks_up_types():
        yield (
            "Fast DDS looks up the type of each subscriber before it sends to it, and can lose a subscriber that way, "
            f"which then never gets a message. Remedy: {FIX}, or set fastdds.type_propagation to disabled in your own "
            "profile"
        )
    if not has_vision_msgs():
        yield (
            "vision_msgs is not installed: output/anomaly/detections and output/semantic/label_info are not "
            "published; Nav2's semantic segmentation layer drops masks without the latter. On a distribution: "
            "sudo apt install ros-$ROS_DISTRO-vision-msgs"
        )
