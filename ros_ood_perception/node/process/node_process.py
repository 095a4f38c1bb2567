"""The process around the node: its threads, its signals, and its exit, which nothing that hangs can prevent."""

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
from rclpy.utilities import remove_ros_args

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.node.health.watchdog import Watchdog
from ros_ood_perception.node.process.bounded_exit import LastLine
from ros_ood_perception.node.process.ros_arguments import ros_arguments
from ros_ood_perception.parameters.rcl_yaml import read_sections
from ros_ood_perception.shown_text import error_line, printable

RCLError = rclpy_implementation.RCLError
UnknownROSArgsError = rclpy_implementation.UnknownROSArgsError

SIGNAL_CHECK_PERIOD_S = 0.1
LEAVING_LIMIT_S = 8.0
"""Longest time from the signal to the end of the process, seconds. Usually it takes 0.3 s. `ros2 launch` kills a
process that has not ended 10 s after its SIGINT, without giving a reason."""
LAST_WORDS_S = 0.5
"""Time for the middleware to deliver the last states and answers, seconds."""


class WatchedNode(Protocol):
    """What this process needs of its node."""

    watchdog: Watchdog

    def start(self) -> None:
        """Called once the executor runs."""
        ...

    def shut_down(self) -> None:
        """Make the last transition."""
        ...

    def publish_diagnostics(self) -> None:
        """Publish /diagnostics now."""
        ...


class _RosNode(WatchedNode, Node):
    """A node with a watchdog."""


def run(make_node: Callable[[Callable[[float], None]], _RosNode], arguments: list[str] | None) -> int:
    """Run a node until SIGINT, SIGTERM, an error in the executor, or a thread that does not return.

    Args:
        make_node: makes the node; its argument is the `alive` of the node's watchdog.
        arguments: arguments of the command line; None: those of the process.

    Returns:
        The exit code; 2 for arguments that ROS 2 cannot read. If a thread was left behind, the process exits here.
    """
    problems = initialise(arguments)
    for problem in problems:
        print(f"perception_node: not started: {problem}", file=sys.stderr)
    if problems:
        return 2
    last_line = LastLine()
    code, abandoned = _run_node(make_node, last_line)
    if not abandoned:
        # A node is in reference cycles, and leaves the graph when it is freed. Freed now, other nodes notice at once,
        # its shared memory is given back, and `last_line` still guards against a middleware that hangs.
        gc.collect()
    last_line.release()
    if abandoned:
        # Not by returning: the thread still uses what Python and the libraries would tear down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def initialise(arguments: list[str] | None) -> list[str]:
    """Initialise rclpy.

    Args:
        arguments: see `run`.

    Returns:
        What is wrong with the arguments. If something is, rclpy is not initialised.
    """
    try:
        unknown = remove_ros_args(sys.argv if arguments is None else ["", *arguments])[1:]
        if not unknown:
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
            return []
    except UnknownROSArgsError as error:
        return [f"unknown arguments behind --ros-args: {error_line(error)}"]
    except RCLError as error:
        return _unreadable(arguments) or [error_line(error)]
    named = " ".join(map(printable, unknown))
    return [f"unknown arguments: {named}; those of ROS 2 (-p, -r) stand behind --ros-args"]


def _unreadable(arguments: list[str] | None) -> list[str]:
    """What is wrong with the parameter files, in our words: those of ROS 2 name neither the parameter nor a remedy."""
    problems = []
    for file in ros_arguments(arguments).parameter_files:
        try:
            read_sections(file)
        except (PerceptionError, OSError) as error:
            problems.append(error_line(error))
    return problems


def _run_node(make_node: Callable[[Callable[[float], None]], _RosNode], last_line: LastLine) -> tuple[int, bool]:
    """Returns the exit code, and whether a thread was left behind."""
    stop = threading.Event()
    signals: list[int] = []
    failures: list[BaseException] = []

    def on_signal(number: int, _frame: object) -> None:
        # No lock, and so no event: this may interrupt the thread that holds it.
        signals.append(number)
        # A second signal of this kind kills the process.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    node = make_node(last_line.beat)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        # Not executor.spin() and executor.shutdown() from outside: that destroys the wait set of a running spin.
        try:
            node.start()
            while not (stop.is_set() or node.watchdog.stuck):
                try:
                    executor.spin_once(timeout_sec=SIGNAL_CHECK_PERIOD_S)
                except RCLError as error:
                    # Such as a response that cannot be sent: no reason to exit.
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
    # The executor has stopped, so this thread may run the last transition.
    node.shut_down()
    if node.watchdog.stuck:
        # While its publishers are still there.
        _report_stuck(node)
    if failures:
        traceback.print_exception(failures[0])
        print(f"{node.get_name()}: the executor failed: {failures[0]!r}", file=sys.stderr)
    node.watchdog.close()
    node.destroy_node()
    rclpy.shutdown()
    return 1 if failures or node.watchdog.stuck else 0, node.watchdog.abandoned


def _report_stuck(node: _RosNode) -> None:
    node.get_logger().fatal(node.watchdog.stuck)
    node.publish_diagnostics()
    faulthandler.dump_traceback(all_threads=True)
    time.sleep(LAST_WORDS_S)
