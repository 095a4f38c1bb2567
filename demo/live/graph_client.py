"""Drives the node's lifecycle and reads its diagnostics, from this process."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node

from demo.demo_input import DemoError
from demo.live.topics import NODE

START_TIMEOUT_S = 60.0


class GraphClient:
    """A ROS node beside the perception node.

    Args:
        alive: called while something is waited for; raises where a process has ended.

    Attributes:
        facts: keys and values of the node's last diagnostics.
    """

    def __init__(self, alive: Callable[[], None]) -> None:
        rclpy.init()
        self._alive = alive
        self._node = Node("demo")
        self._change_state = self._node.create_client(ChangeState, f"{NODE}/change_state")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.facts: dict[str, str] = {}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(NODE.lstrip("/")):
                self.facts = {pair.key: pair.value for pair in status.values}

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float) -> None:
        """Spin until the condition holds.

        Raises:
            DemoError: it does not hold in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._alive()
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {timeout_s:.0f} s")
            rclpy.spin_once(self._node, timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        """Spin for a time."""
        deadline = time.monotonic() + seconds
        self.wait_for("the end of the pause", lambda: time.monotonic() >= deadline, seconds + START_TIMEOUT_S)

    def transition(self, label: str, number: int) -> None:
        """One lifecycle transition.

        Args:
            number: of `lifecycle_msgs/Transition`.

        Raises:
            DemoError: refused or failed.
        """
        self.wait_for("the node's lifecycle service", self._change_state.service_is_ready, START_TIMEOUT_S)
        request = ChangeState.Request()
        request.transition.id = number
        future = self._change_state.call_async(request)
        self.wait_for(f"the transition '{label}'", future.done, START_TIMEOUT_S)
        if not future.result().success:
            raise DemoError(f"the node refused to {label}; its log says why")

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        # Ctrl-C has shut rclpy down already.
        rclpy.try_shutdown()
