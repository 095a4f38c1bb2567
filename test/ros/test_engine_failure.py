"""A real engine that fails under the node: a frame that is too bright makes it give a score that no engine may give."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench import ACTIVE, INACTIVE, ROOT, Bench, NodeProcess
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from image_messages import to_message
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

StartNode = Callable[..., NodeProcess]
STATE = "/perception_node/output/state"
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def grey(second: int, value: int) -> Image:
    pixels = np.full((120, 160, 3), value, np.uint8)
    return to_message(pixels, "rgb8", Header(stamp=Time(sec=second), frame_id="lens"))


@pytest.fixture
def states(bench: Bench) -> list[str]:
    found: list[str] = []

    def add(message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        assert (values["valid"] == "true") == (values["state"] == "active")
        found.append(values["state"])

    bench.node.create_subscription(DiagnosticStatus, STATE, add, LATCHED)
    return found


def test_a_failed_frame_is_said_to_be_invalid_at_once_and_the_engine_is_opened_again(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, states: list[str]
) -> None:
    node = start_node(bundle=brightness_bundle, engine_retry_s=1.0, stale_after_s=60.0)
    bench.bring_up()
    bench.send(grey(1, 100))
    bench.spin_until(lambda: "active" in states, "the active state")
    bench.send(grey(2, 255))
    bench.spin_until(lambda: states[-1] == "failed", "the failed state")
    # The engine is closed for a second: what comes meanwhile fails without another attempt.
    bench.send(grey(3, 100))
    bench.settle(3)
    bench.spin_for(1.0)
    bench.send(grey(4, 100))
    bench.spin_until(lambda: states[-1] == "active", "the active state again")
    counts = bench.settle(4)
    assert (counts["published"], counts["failed"]) == (2, 2)
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [1, 4]
    assert (bench.facts["engine_failures"], bench.facts["engine_reopened"]) == ("1", "1")
    assert node.log.count("gave anomaly scores that are not in [0, 1]") == 2  # the frame's kind, and the engine's event
    assert "engine 'onnxruntime' is open again" in node.log


def test_an_engine_that_fails_again_and_again_leaves_the_node_inactive_until_it_is_activated(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, states: list[str]
) -> None:
    node = start_node(
        bundle=brightness_bundle, engine_retry_s=0.01, max_engine_failures=2, after_engine_failures="inactive"
    )
    bench.bring_up()
    bench.send(grey(1, 255))
    bench.settle(1)
    bench.spin_for(0.2)
    bench.send(grey(2, 255))
    bench.spin_until(lambda: bench.state() == INACTIVE, "the inactive state")
    bench.spin_until(lambda: states[-1] == "inactive", "the word of it")
    assert bench.accounting()["failed"] == 2
    assert bench.received["semantic"] == []
    assert "no engine is left: going inactive" in node.log
    assert bench.transition("activate")
    assert bench.state() == ACTIVE
    bench.wait_for_discovery()
    bench.send(grey(3, 100))
    bench.wait_for_outputs(1)
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [3]
    assert node.stop() == 0


@pytest.mark.parametrize("after", ["fallback", "inactive"])
def test_an_engine_that_neither_closes_nor_opens_again_leaves_the_node_inactive(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, states: list[str], after: str
) -> None:
    node = start_node(
        command=[sys.executable, str(ROOT / "test" / "ros" / "node_whose_engine_opens_once.py")],
        bundle=brightness_bundle,
        engine="onnxruntime",
        engine_retry_s=0.01,
        max_engine_failures=3,
        after_engine_failures=after,
    )
    bench.bring_up()
    for second in (1, 2, 3):
        bench.send(grey(second, 255 if second == 1 else 100))
        bench.spin_until(lambda second=second: bench.facts.get("failed") == str(second), "the count")  # type: ignore[misc]
    bench.spin_until(lambda: bench.state() == INACTIVE, "the inactive state")
    bench.spin_until(lambda: states[-1] == "inactive", "the word of it")
    assert bench.facts["engine_failures"] == "3"
    assert "'onnxruntime' could not be closed (the NVIDIA driver says" in node.log
    assert node.log.count("no engine is left: going inactive") == 1
    assert node.stop() == 0


def test_after_too_many_failures_the_next_engine_takes_the_frames_that_the_first_could_not(
    bench: Bench, start_node: StartNode, states: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    from brightness_bundle import add_half_graph, write_brightness_bundle

    bundle = write_brightness_bundle(tmp_path / "bundle", full_scale=255)
    add_half_graph(bundle)
    node = start_node(
        command=[sys.executable, str(ROOT / "test" / "ros" / "node_with_torch_on_cpu.py")],
        bundle=bundle,
        engine="torch",
        precision="fp16",
        engine_image_height=120,
        engine_image_width=160,
        engine_retry_s=0.01,
        max_engine_failures=3,
    )
    bench.bring_up()
    bench.send(grey(1, 100))
    bench.wait_for_outputs(1)
    bench.settle(1)
    assert bench.facts["engine"] == "torch"
    for second in (2, 3, 4):
        bench.send(grey(second, 255))
        assert bench.settle(second)["failed"] == second - 1
    for second in (5, 6):
        bench.send(grey(second, 255))
        bench.wait_for_outputs(second - 3)
    counts = bench.settle(6)
    assert (counts["published"], counts["failed"]) == (3, 3)
    assert bench.facts["engine"] == "onnxruntime"
    assert [m.header.stamp.sec for m in bench.received["score"]] == [1, 5, 6]
    assert set(bench.received["score"][-1].data) == {255}
    bench.spin_until(lambda: states[-3:] == ["active", "failed", "active"], "the states")
    assert "engine 'torch' failed 3 times in a row; next: 'onnxruntime'" in node.log
    assert node.stop() == 0
