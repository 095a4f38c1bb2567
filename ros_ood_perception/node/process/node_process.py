"""The process around the node: its threads, its signals, and its end, which comes whatever hangs."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ros_ood_perception.node.health.watchdog import Watchdog
from ros_ood_perception.node.process.bounded_exit import LastLine

RCLError = rclpy_implementation.RCLError

SIGNAL_CHECK_PERIOD_S = 0.1
LEAVING_LIMIT_S = 8.0
"""From the signal to the end. It takes 0.3 s. `ros2 launch` kills what has not ended 10 s after its SIGINT, without a
word on why."""
LAST_WORDS_S = 0.5
"""For the middleware to deliver the last states and answers."""


class WatchedNode(Protocol):
    """What this process needs of its node."""

    watchdog: Watchdog

    def start(self) -> None:
        """What it does by itself once it runs."""
        ...

    def shut_down(self) -> None:
        """The last transition."""
        ...

    def publish_diagnostics(self) -> None:
        """How it is."""
        ...


class _RosNode(WatchedNode, Node):
    """Both."""


def run(make_node: Callable[[Callable[[float], None]], _RosNode], arguments: list[str] | None) -> int:
    """Run a node until SIGINT, SIGTERM, an error in the executor, or a thread that does not come back.

    Args:
        make_node: given what its watchdog calls as long as it is alive.
        arguments: of the command line; None: those of the process.

    Returns:
        The exit code; does not return where a thread was left behind.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    last_line = LastLine()
    code, abandoned = _until_left(make_node, last_line)
    if not abandoned:
        # A node is a circle of objects, and leaves the graph when they are freed: now, and not when Python ends. So
        # others learn of it at once, its shared memory is given back, and a middleware that hangs in it is ended.
        gc.collect()
    last_line.release()
    if abandoned:
        # Not by returning: what Python and the libraries tear down at the end is still in use by the thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _until_left(make_node: Callable[[Callable[[float], None]], _RosNode], last_line: LastLine) -> tuple[int, bool]:
    """The exit code, and whether a thread was left behind."""
    stop = threading.Event()
    signals: list[int] = []
    failures: list[BaseException] = []

    def on_signal(number: int, _frame: object) -> None:
        # No lock here, and so no event: this interrupts the thread that may hold it.
        signals.append(number)
        # A second signal of the kind ends the process the hard way.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    node = make_node(last_line.beat)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        # Not executor.spin() and executor.shutdown() from outside: that pulls the wait set from under a running spin.
        try:
            node.start()
            while not (stop.is_set() or node.watchdog.stuck):
                try:
                    executor.spin_once(timeout_sec=SIGNAL_CHECK_PERIOD_S)
                except RCLError as error:
                    # An answer that cannot be sent, for one: no reason to end.
                    node.get_logger().error(f"a request failed: {error}")
        except BaseException as error:  # reported below, in the thread that can end the process
            failures.append(error)
        stop.set()

    thread = threading.Thread(target=spin, name="executor", daemon=True)
    thread.start()
    # In short sleeps: the system may hand the signal to a thread of the middleware, and Python calls the handler only
    # when this thread runs again.
    while not (signals or stop.is_set()):
        time.sleep(SIGNAL_CHECK_PERIOD_S)
    stop.set()
    last_line.leave_within(LEAVING_LIMIT_S)
    node.watchdog.leave()
    thread.join()
    executor.shutdown()
    # The executor is at rest, so this thread may drive the last transition.
    node.shut_down()
    if node.watchdog.stuck:
        # While its publishers are still there.
        _say_what_is_stuck(node)
    if failures:
        traceback.print_exception(failures[0])
        print(f"{node.get_name()}: the executor failed: {failures[0]!r}", file=sys.stderr)
    node.watchdog.close()
    node.destroy_node()
    rclpy.shutdown()
    return 1 if failures or node.watchdog.stuck else 0, node.watchdog.abandoned


def _say_what_is_stuck(node: _RosNode) -> None:
    node.get_logger().fatal(node.watchdog.stuck)
    node.publish_diagnostics()
    faulthandler.dump_traceback(all_threads=True)
    time.sleep(LAST_WORDS_S)
