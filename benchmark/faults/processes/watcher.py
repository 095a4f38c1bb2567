"""The campaign's ROS node: receives results, states and diagnostics; sets parameters, requests transitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from benchmark.faults.frames import CAMERAS
from benchmark.faults.topics import CLOCK_TOPIC, NODE, OUTPUTS
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
ANSWER_TIMEOUT_S = 10.0
CLOCK_PERIOD_S = 0.05


@dataclass(frozen=True)
class Result:
    """An image that the node published.

    Attributes:
        output: one of `OUTPUTS`.
        stamp: seconds and nanoseconds.
        node: which start of the node published it, by its publisher.
        received_at: monotonic clock, s.
    """

    camera: str
    output: str
    stamp: tuple[int, int]
    height: int
    width: int
    encoding: str
    data: bytes = field(repr=False)
    node: bytes
    received_at: float


@dataclass(frozen=True)
class Report:
    """A camera's part of one message on /diagnostics.

    Attributes:
        facts: key to value; empty where the node is not configured.
        node: which start of the node published it, by its publisher.
    """

    facts: dict[str, str]
    node: bytes
    received_at: float


class Watcher:
    """A ROS node in the campaign's process, spun only by its main thread."""

    def __init__(self, on_report: Callable[[str, Report], None]) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("campaign")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._on_report = on_report
        self.results: list[Result] = []
        """Not yet checked."""
        self.reports: dict[str, Report] = {}
        self.states: dict[str, tuple[bool, float]] = {}
        """Camera to whether its outputs are valid, and when that was received."""
        for camera in CAMERAS:
            for output in OUTPUTS:
                self.node.create_subscription(
                    Image, f"{NODE}/{camera}/{output}", self._result_taker(camera, output), RELIABLE
                )
            self.node.create_subscription(
                DiagnosticStatus, f"{NODE}/{camera}/output/state", self._state_taker(camera), LATCHED
            )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._change_state = self.node.create_client(ChangeState, f"{NODE}/change_state")
        self._set_parameters = self.node.create_client(SetParametersAtomically, f"{NODE}/set_parameters_atomically")
        self._clock = self.node.create_publisher(Clock, CLOCK_TOPIC, 10)
        self._clock_offset_s: float | None = None
        self.node.create_timer(CLOCK_PERIOD_S, self._publish_clock)
        self.tend: Callable[[], object] = lambda: None
        """Called repeatedly during every wait."""

    def _result_taker(self, camera: str, output: str) -> Callable[..., None]:
        def take(message: Image, info: Any) -> None:
            stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
            size = (message.height, message.width)
            node = bytes(info["publisher_gid"]["data"])[:12]
            data = bytes(message.data)
            self.results.append(Result(camera, output, stamp, *size, message.encoding, data, node, time.monotonic()))

        return take

    def _state_taker(self, camera: str) -> Callable[..., None]:
        def take(message: DiagnosticStatus) -> None:
            facts = {pair.key: pair.value for pair in message.values}
            self.states[camera] = (facts["valid"] == "true", time.monotonic())

        return take

    def _on_diagnostics(self, message: DiagnosticArray, info: Any) -> None:
        now = time.monotonic()
        for status in message.status:
            facts = {pair.key: pair.value for pair in status.values}
            report = Report(facts, bytes(info["publisher_gid"]["data"])[:12], now)
            node, _, camera = status.name.partition(": ")
            if node != NODE.lstrip("/"):
                continue
            # The node itself has a status only while it is not configured.
            for name in CAMERAS if not camera else [camera]:
                if name in CAMERAS:
                    self.reports[name] = report
                    self._on_report(name, report)

    def _publish_clock(self) -> None:
        if self._clock_offset_s is not None:
            now_ns = time.time_ns() + int(self._clock_offset_s * 1e9)
            self._clock.publish(
                Clock(clock=Time(sec=now_ns // NANOSECONDS_PER_SECOND, nanosec=now_ns % NANOSECONDS_PER_SECOND))
            )

    def set_clock(self, offset_s: float | None) -> None:
        """Publish /clock with an offset from the wall clock, seconds; None: stop."""
        self._clock_offset_s = offset_s

    def spin_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Spin until a condition holds; returns whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.tend()
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            self._executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        """Spin for a time."""
        self.spin_until(lambda: False, seconds)

    def transition(self, name: str, timeout_s: float = ANSWER_TIMEOUT_S) -> bool | None:
        """Request a transition; returns whether it succeeded, None without an answer."""
        answer = self._call(
            self._change_state, ChangeState.Request(transition=Transition(id=TRANSITIONS[name])), timeout_s
        )
        return None if answer is None else bool(answer.success)

    def set_parameters(self, values: dict[str, Any], timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[bool, str] | None:
        """Set all parameters or none. Returns whether they were accepted, and the reason; None without an answer."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answer = self._call(self._set_parameters, SetParametersAtomically.Request(parameters=parameters), timeout_s)
        return None if answer is None else (bool(answer.result.successful), str(answer.result.reason))

    def _call(self, client: Any, request: Any, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        if not self.spin_until(client.service_is_ready, timeout_s):
            return None
        future = client.call_async(request)
        self.spin_until(future.done, deadline - time.monotonic())
        if not future.done():
            client.remove_pending_request(future)
            return None
        return future.result()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()
