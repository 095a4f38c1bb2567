from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import INPUT_TOPIC, OUTPUTS, ROOT, Bench, CameraProcess, NodeProcess, image
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, PointCloud2

from ros_ood_perception.launching.transport_environment import PROFILE_VARIABLES

pytestmark = pytest.mark.alone

StartNode = Callable[..., NodeProcess]
StartCamera = Callable[..., CameraProcess]


def test_simulated_time_that_has_not_begun_is_said_and_ages_follow_the_clock_forth_and_back(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, use_sim_time="true", max_frame_age_ms=500.0, diagnostics_period_s=0.2)
    clock = bench.node.create_publisher(Clock, "/clock", 10)
    bench.bring_up()
    # The diagnostics come although the node's clock stands still.
    bench.spin_until(lambda: "nothing has come on /clock" in bench.facts.get("clock", ""), "the word of it")
    bench.wait_for_node(clock)

    def at(second: float) -> None:
        clock.publish(Clock(clock=Time(sec=int(second), nanosec=round(second % 1 * 1e9))))
        bench.spin_for(0.3)

    def send(second: int) -> None:
        message = image(second)
        message.header.stamp = Time(sec=second)
        bench.send(message)

    at(1000.2)
    send(1000)  # 200 ms old
    bench.settle(1)
    assert "clock" not in bench.facts
    assert 200 <= float(bench.facts["age_ms_p50"]) < 400
    at(1002.0)
    send(1001)  # 1000 ms old
    bench.settle(2)
    at(500.1)  # the bag begins again
    send(500)
    counts = bench.settle(3)
    assert (counts["published"], counts["too_old"]) == (2, 1)
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [1000, 500]
    assert "use_sim_time" in node.log
    # The clock's jump was seen first, so the stamp is the first of a new time; without a jump it is one that goes back.
    assert "stamp went back" not in bench.facts
    send(499)
    bench.settle(4)
    assert bench.facts["stamp went back"] == "1"


def test_a_stamp_ahead_of_the_nodes_clock_is_said(bench: Bench, start_node: StartNode, brightness_bundle: Path) -> None:
    node = start_node(bundle=brightness_bundle)
    bench.bring_up()
    message = image()
    message.header.stamp = Time(sec=int(time.time()) + 100)
    bench.send(message)
    bench.settle(1)
    assert bench.facts["stamp in the future"] == "1"
    assert "ahead of this node's clock; synchronise the clocks" in node.log


def test_frames_too_far_apart_for_any_obstacle_are_a_warning_that_names_the_remedy_and_ends(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    node = start_node(
        bundle=brightness_bundle, persistence__max_gap_s=0.5, stale_after_s=60.0, diagnostics_period_s=0.2
    )
    bench.bring_up()
    for second in (1, 2, 3):
        bench.send(image(second))  # a second apart by their stamps
        bench.settle(second)
    # Nobody subscribes to obstacles.
    assert "frames too far apart" not in bench.facts
    topic = "/perception_node/output/anomaly/obstacles"
    bench.node.create_subscription(PointCloud2, topic, lambda message: None, 5)
    bench.spin_until(lambda: bench.facts[f"subscribers of {topic}"] == "1", "the node's knowledge of it")

    def send(number: int) -> str:
        message = image(number)
        # From the fifth on a tenth of a second apart.
        message.header.stamp = Time(sec=1004, nanosec=max(0, number - 4) * 100_000_000)
        bench.send(message)
        bench.settle(number)
        return bench.status["camera"].message

    said = send(4)
    assert bench.facts["frames too far apart"] == "1"
    assert "are 1.00 s apart" in said
    assert "raise persistence.max_gap_s" in said
    assert "persistence.max_gap_s (0.5 s) without a frame earlier frames are forgotten" in node.log
    assert bench.status["camera"].level == DiagnosticStatus.WARN
    assert "frames_too_far_apart" not in send(5)


def test_qos_that_does_not_match_is_logged_with_its_fix_on_both_sides(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    name = f"qos_overrides.{INPUT_TOPIC}.subscription.reliability"
    node = start_node(bundle=brightness_bundle, **{name: "reliable"})
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    bench.node.create_publisher(Image, INPUT_TOPIC, best_effort)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.node.create_subscription(Image, OUTPUTS["mask"], lambda message: None, latched)
    assert bench.transition("configure")
    assert bench.transition("activate")
    input_fix = f"set {name} to best_effort"
    bench.spin_until(lambda: input_fix in node.log, f"the input's fix in {node.log}")
    output_fix = "let it ask for volatile"
    bench.spin_until(lambda: output_fix in node.log, f"the output's fix in {node.log}")


def test_nobody_there_another_type_and_frames_that_do_not_fit_are_told_apart(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    node = start_node(bundle=brightness_bundle, image_transport="compressed", diagnostics_period_s=0.2)
    assert bench.transition("configure")
    assert bench.transition("activate")

    def message() -> str:
        return bench.status["camera"].message if "camera" in bench.status else ""

    topic = "/perception_node/input/image/compressed"
    bench.spin_until(lambda: f"nobody publishes on {topic}: start the camera, or remap" in message(), "nobody")
    publisher = bench.node.create_publisher(Image, topic, 5)
    bench.spin_until(
        lambda: "is published as sensor_msgs/msg/Image, and CompressedImage is expected" in message(), "it"
    )
    bench.node.destroy_publisher(publisher)
    assert bench.transition("deactivate")
    assert bench.transition("cleanup")
    assert bench.set(image_transport="raw") == [(True, "")]
    bench.bring_up()
    # UDP carries it here, but a segment of 512 KB would not: the first frame that arrives says so.
    bench.send(image(0, (480, 640)))
    bench.settle(1)
    assert bench.facts["frame larger than the transport's segment"] == "1"
    assert "a frame of the camera: 921600 bytes, and the shared-memory segment of Fast DDS has 524288" in node.log


def test_results_that_take_too_long_are_not_blamed_on_the_transport(
    bench: Bench,
    start_node: StartNode,
    start_camera: StartCamera,
    brightness_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in PROFILE_VARIABLES:
        # So that there is a word to say about the transport.
        monkeypatch.delenv(variable, raising=False)
    start_node(
        command=[sys.executable, str(ROOT / "test" / "ros" / "node_with_slow_engine.py")],
        bundle=brightness_bundle,
        stale_after_s=0.2,
        diagnostics_period_s=0.1,
        max_rate_hz=10.0,
    )
    bench.bring_up()
    camera = start_camera(INPUT_TOPIC, 20.0, "--size", "120", "160")
    camera.wait_until_ready()
    said = ""

    def is_slow() -> bool:
        nonlocal said
        said = bench.status["camera"].message
        return "frames come, and no result for" in said

    bench.spin_until(is_slow, "the stale state")
    assert "a result takes longer than stale_after_s (0.2 s): use a faster engine" in said
    assert "raise stale_after_s or max_rate_hz (10)" in said
    assert "publishers on" not in said
    camera.stop()
    bench.spin_until(lambda: "none of their frames arrives" in bench.status["camera"].message, "the silence")
