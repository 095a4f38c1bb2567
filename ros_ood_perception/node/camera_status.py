"""What the node counts and reports about one camera: accounting, logs, `output/state` and its part of /diagnostics."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.messages.topics import STATE_TOPIC, camera_topic
from ros_ood_perception.node.frames.accounting import FrameAccounting
from ros_ood_perception.node.frames.losses import Losses
from ros_ood_perception.node.health.diagnostics import status
from ros_ood_perception.node.health.health import FRAMES_LOST, CameraHealth, CameraPulse, StageLatencies
from ros_ood_perception.node.health.logged_kinds import LoggedKinds
from ros_ood_perception.node.health.state_log import StateLog
from ros_ood_perception.parameters.settings import LiveSettings
from ros_ood_perception.pipeline.fates import FAILED, MALFORMED


class Arrivals(Protocol):
    """What is known of the way of the frames to the node: `CameraInput`."""

    def why_nothing_comes(self, cause_is_known: bool) -> str:
        """Why no image arrives; empty if that is not known."""

    def recent_losses(self, now: float) -> Losses:
        """The losses of the last seconds."""

    def loss_problem(self, losses: Losses) -> str:
        """Cause and remedy of too many losses; empty if there are few."""


class CameraStatus:
    """Counts and reports. Thread-safe: the inference thread calls it for each frame, the executor's periodically.

    Args:
        node: the node that publishes.
        camera: its name, or "" for the camera without a name.

    Attributes:
        accounting: where every frame went.
        pulse: times from which the health is computed.
        latencies: durations of the stages.
        kinds: problems that are counted, and logged when they begin. They are errors: a frame was lost to them.
        doubts: the same for what is a warning: the frame was used.
        log: changes of the state and of warnings.
    """

    def __init__(self, node: Node, camera: str) -> None:
        self._node = node
        self._title = f"{node.get_fully_qualified_name().lstrip('/')}: {camera or 'camera'}"
        self.accounting = FrameAccounting()
        self.pulse = CameraPulse()
        self.latencies = StageLatencies()
        prefix = f"camera '{camera}': " if camera else ""
        self.kinds = LoggedKinds(node.get_logger().error, prefix)
        self.doubts = LoggedKinds(node.get_logger().warning, prefix)
        self.log = StateLog(node.get_logger(), prefix or "camera: ")
        self._last_state: tuple[str, str] | None = None
        self._lock = threading.Lock()
        # Not a lifecycle publisher: it also reports that the node is inactive.
        self._publisher: Publisher[DiagnosticStatus] | None = node.create_publisher(
            DiagnosticStatus,
            camera_topic(camera, STATE_TOPIC),
            QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )

    def close(self) -> None:
        """Destroy the publisher."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            self._node.destroy_publisher(publisher)

    def count_malformed(self, error: MalformedImageError) -> None:
        """Count a frame that cannot be used for inference."""
        self.accounting.count(MALFORMED)
        self.pulse.refused("rejected", f"malformed frames ({error.kind})")
        self.kinds.add(f"malformed: {error.kind}", f"malformed image dropped: {error}")

    def count_failed(self, error: Exception) -> None:
        """Count a frame on which inference or publishing failed."""
        self.accounting.count(FAILED)
        kind = type(error).__name__
        self.pulse.refused("failed", f"a frame failed ({kind})")
        self.kinds.add(f"failed: {kind}", f"a frame failed: {kind}: {error}")

    def health(self, now: float, live: LiveSettings, arrivals: Arrivals) -> tuple[CameraHealth, Losses]:
        """The camera's health with its reasons and all warnings, and the losses of the last seconds."""
        health = self.pulse.health(now, live.stale_after_s)
        losses = arrivals.recent_losses(now)
        problem = arrivals.loss_problem(losses)
        if health.nothing_received:
            health = _with_reason(health, arrivals.why_nothing_comes(bool(problem)))
        elif health.no_result:
            health = _with_reason(health, _why_no_result(live))
        if health.state != "inactive" and problem:
            health = replace(health, implausible={**health.implausible, FRAMES_LOST: problem})
        return health, losses

    def publish(self, live: LiveSettings, arrivals: Arrivals) -> None:
        """Log the state and publish `output/state`, if it changed."""
        with self._lock:
            health, _ = self.health(time.monotonic(), live, arrivals)
            self.log.see(health, live.stale_after_s)
            # Without the reason: it counts seconds.
            state = (health.state, ", ".join(sorted(health.implausible)))
            if state == self._last_state or self._publisher is None:
                return
            self._last_state = state
            facts: dict[str, str | float] = {
                "state": health.state,
                "valid": "true" if health.valid else "false",
                "since_ns": str(self._node.get_clock().now().nanoseconds),
            }
            self._publisher.publish(status(self._title, self._node.get_name(), health, facts))

    def report(
        self,
        live: LiveSettings,
        arrivals: Arrivals,
        world: Mapping[str, str],
        subscribers: Mapping[str, int],
        node_facts: Mapping[str, str | float],
    ) -> DiagnosticStatus:
        """The camera's part of /diagnostics.

        Args:
            arrivals: gives the reason if no frame comes, and the losses.
            world: `ground` and `motion`: each `known`, or why the camera's place over the ground, or the vehicle's at
                the last frame, is not known.
            subscribers: topic to number of subscribers.
            node_facts: keys and values that are the same for all cameras.
        """
        now = time.monotonic()
        health, losses = self.health(now, live, arrivals)
        counts, total = self.accounting.snapshot(), self.accounting.losses()
        received_hz, published_hz = self.pulse.rates_hz(now)
        facts: dict[str, str | float] = {
            "state": health.state,
            **counts.as_dict(),
            "lost_by_middleware": total.by_middleware,
            "overwritten_in_queue": total.overwritten,
            "lost_percent": 100.0 * losses.share,
            **world,
            "received_hz": received_hz,
            "published_hz": published_hz,
            **self.latencies.percentiles(),
            **self.kinds.counts(),
            **self.doubts.counts(),
            **{f"subscribers of {topic}": count for topic, count in subscribers.items()},
            **node_facts,
        }
        return status(self._title, self._node.get_name(), health, facts)


def _with_reason(health: CameraHealth, why: str) -> CameraHealth:
    return replace(health, reason=f"{health.reason}; {why}") if why else health


def _why_no_result(live: LiveSettings) -> str:
    # "If it lasts": this also holds for a moment while the first frame after a pause is in inference.
    why = (
        f"if it lasts, a result takes longer than stale_after_s ({live.stale_after_s:g} s): use a faster engine, a "
        "smaller bundle or fewer cameras, or raise stale_after_s"
    )
    return f"{why} or max_rate_hz ({live.max_rate_hz:g})" if live.max_rate_hz else why
