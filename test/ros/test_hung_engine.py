"""An engine that does not come back: what is said of it, what becomes of the frame, and that the process ends."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import ACTIVE, INACTIVE, ROOT, Bench, NodeProcess
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from image_messages import to_message
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

pytestmark = pytest.mark.alone

StartNode = Callable[..., NodeProcess]
HANGS = [sys.executable, str(ROOT / "test" / "ros" / "node_whose_engine_hangs.py")]
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def grey(second: int, value: int, size: tuple[int, int] = (120, 160)) -> Image:
    return to_message(np.full((*size, 3), value, np.uint8), "rgb8", Header(stamp=Time(sec=second), frame_id="lens"))


@pytest.fixture
def states(bench: Bench) -> list[str]:
    found: list[str] = []

    def add(message: DiagnosticStatus) -> None:
        found.append({pair.key: pair.value for pair in message.values}["state"])

    bench.node.create_subscription(DiagnosticStatus, "/perception_node/output/state", add, LATCHED)
    return found


@pytest.fixture
def messages(bench: Bench) -> list[DiagnosticArray]:
    found: list[DiagnosticArray] = []
    bench.node.create_subscription(DiagnosticArray, "/diagnostics", found.append, 10)
    return found


def ended(bench: Bench, node: NodeProcess, within_s: float) -> int:
    """Its exit code, while the bench goes on to listen."""
    bench.spin_until(lambda: node.process.poll() is not None, "the end of the process", within_s)
    return int(node.process.returncode)


def test_an_engine_that_can_be_stopped_is_stopped_and_the_next_frame_is_published(
    bench: Bench, start_node: StartNode, states: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from brightness_bundle import write_brightness_bundle

    large = to_message(np.full((3000, 4000), 100, np.uint8), "mono8", Header(frame_id="lens"))
    node = start_node(
        bundle=write_brightness_bundle(tmp_path / "slow", 255, steps=29),
        inference_deadline_s=0.3,
        engine_retry_s=0.01,
        num_threads=1,
        max_engine_failures=99,
        stale_after_s=60.0,
    )
    bench.bring_up()
    bench.send(grey(1, 100))
    bench.spin_until(lambda: states[-1:] == ["active"], "the active state")
    large.header.stamp.sec = 2
    bench.send(large)
    bench.spin_until(lambda: states[-1:] == ["failed"], "the failed state")
    counts = bench.settle(2)
    assert (counts["published"], counts["failed"]) == (1, 1)
    assert bench.facts["engine_failures"] == "1"
    bench.spin_until(lambda: "it is opened again in" in node.log, "the end of the run that was stopped")
    bench.spin_for(0.1)
    bench.send(grey(3, 100))
    bench.wait_for_outputs(2)
    large.header.stamp.sec = 4
    bench.send(large)
    bench.spin_until(lambda: bench.facts["in_progress"] == "1" or bench.facts["failed"] == "2", "the large frame")
    assert bench.transition("deactivate")
    assert bench.state() == INACTIVE
    counts = bench.settle(4)
    assert (counts["published"], counts["failed"]) == (2, 2)
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [1, 3]
    assert bench.transition("activate")
    assert bench.state() == ACTIVE
    assert node.stop() == 0


def test_a_result_that_comes_after_the_deadline_is_never_published(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANGS", "run_late")
    node = start_node(
        command=HANGS, bundle=brightness_bundle, inference_deadline_s=0.5, engine_retry_s=0.01, max_engine_failures=9
    )
    bench.bring_up()
    bench.send(grey(1, 255))
    bench.spin_until(lambda: states[-1:] == ["failed"], "the failed state")
    bench.spin_until(lambda: "it is opened again in" in node.log, "the return of the run that hung")
    bench.spin_for(0.1)
    bench.send(grey(2, 100))
    bench.wait_for_outputs(1)
    counts = bench.settle(2)
    assert (counts["published"], counts["failed"]) == (1, 1)
    assert {m.header.stamp.sec for messages in bench.received.values() for m in messages} == {2}
    assert (bench.facts["engine_failures"], bench.facts["engine_reopened"]) == ("1", "1")
    assert node.stop() == 0


def test_while_the_engine_is_deaf_the_node_says_so_answers_and_ends_with_its_stack(
    bench: Bench,
    start_node: StartNode,
    brightness_bundle: Path,
    states: list[str],
    messages: list[DiagnosticArray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HANGS", "run")
    node = start_node(
        command=HANGS,
        bundle=brightness_bundle,
        inference_deadline_s=2.0,
        diagnostics_period_s=0.1,
        stale_after_s=60.0,
        autostart=True,
    )
    bench.wait_for_answers()
    bench.wait_for_discovery()
    bench.send(grey(1, 100))
    bench.wait_for_outputs(1)
    bench.send(grey(2, 255))
    bench.spin_until(lambda: states[-1:] == ["failed"], "the failed state")
    bench.spin_until(lambda: bench.facts["failed"] == "1", "the count")
    assert (bench.facts["engine_open"], bench.status["camera"].level) == ("false", DiagnosticStatus.ERROR)
    before = len(messages)
    # It waits for the frame in hand, and does not stop to speak meanwhile.
    assert bench.transition("deactivate")
    assert len(messages) > before + 5
    counts = bench.accounting()
    assert (counts["published"], counts["failed"], counts["in_progress"]) == (1, 1, 0)
    assert bench.facts["engine_failures"] == "1"
    assert ended(bench, node, 60.0) == 1
    assert "its thread cannot be freed" in node.log
    assert "in hang_for_ever" in node.log
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [1]


class Hanging:
    """A node of a name of its own, whose engine hangs somewhere, and how it has to end."""

    def __init__(self, where: str, stopped: bool, code: int, said: str, **parameters: Any) -> None:
        self.where, self.stopped, self.code, self.said, self.parameters = where, stopped, code, said, parameters

    @property
    def name(self) -> str:
        return f"{self.where}_{'stopped' if self.stopped else 'left_alone'}"


HANGING = (
    Hanging("run", True, 1, "inference on the engine 'onnxruntime' has not come back", inference_deadline_s=600.0),
    Hanging("close", True, 1, "closing the engine 'onnxruntime' has not come back"),
    Hanging("open", True, 0, "the process is to end"),
    Hanging("open", False, 1, "opening the engine 'auto' has not come back", engine_opening_deadline_s=0.5),
    Hanging("reopen", False, 1, "opening the engine 'onnxruntime' has not come back", engine_opening_deadline_s=2.0),
    Hanging("run_holding", False, 1, "Timeout (0:00:0", inference_deadline_s=0.5),
    Hanging("loop", False, 1, "the inference thread ended by an error (LookupError('a fault of the node'))"),
)


def test_whatever_hangs_one_signal_or_the_deadline_ends_the_process(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = []
    for hanging in HANGING:
        monkeypatch.setenv("HANGS", hanging.where)
        command = [*HANGS, "--ros-args", "-r", f"__node:={hanging.name}"]
        parameters = {"autostart": True, "engine_retry_s": 0.01, **hanging.parameters}
        nodes.append(start_node(command=command, bundle=brightness_bundle, **parameters))
    listening = [node for node, hanging in zip(nodes, HANGING, strict=True) if hanging.where != "open"]
    bench.spin_until(lambda: all("active: listening" in node.log for node in listening), "the nodes")
    bench.spin_until(lambda: bench.camera.get_subscription_count() == len(listening), "their subscriptions")
    # A score that no engine may give, where it does not hang: then it is closed, and opened again for the next frame.
    for second, value in ((1, 255), (2, 255), (3, 100)):
        bench.send(grey(second, value))
        bench.spin_for(0.3)
    for node, hanging in zip(nodes, HANGING, strict=True):
        if hanging.stopped:
            node.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    bench.spin_until(lambda: all(node.process.poll() is not None for node in nodes), "the end of all", 60.0)
    # The limit is 8 s; a hang would last for ever.
    assert time.monotonic() - began < 30.0
    for node, hanging in zip(nodes, HANGING, strict=True):
        assert (hanging.name, node.process.returncode) == (hanging.name, hanging.code)
        assert hanging.said in node.log, (hanging.name, node.log)
        if hanging.where != "loop":
            assert ("hang_for_ever" in node.log or "run_and_hang" in node.log) == bool(hanging.code)
