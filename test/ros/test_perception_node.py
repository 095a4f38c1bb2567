"""The node against real rclpy: it runs in a process of its own, the test is camera and consumer."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench import ACTIVE, INACTIVE, INPUT_TOPIC, OUTPUTS, OVERLAY, RELIABLE, UNCONFIGURED, Bench, NodeProcess, image
from builtin_interfaces.msg import Time
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.camera.raw_image import to_array, to_colour
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.launching.transport_environment import PROFILE_VARIABLES

StartNode = Callable[..., NodeProcess]


def test_every_frame_comes_back_under_its_own_header_equal_to_the_engines(
    bench: Bench, start_node: StartNode, shipped_bundle: Path
) -> None:
    start_node(anomaly_threshold=0.4)
    bench.bring_up()
    # Of two aspects, each with an input size of its own.
    encodings = ("rgb8", "bgr8", "mono8", "rgba8", "bgra8")
    frames = [image(n, (90 + n, (120, 164)[n % 2]), encoding) for n, encoding in enumerate(encodings)]
    for number, frame in enumerate(frames):
        bench.send(frame)
        bench.wait_for_outputs(number + 1)
    perception = Perception(open_engine(read_bundle(shipped_bundle), "auto"), 0.4, 11)
    for number, frame in enumerate(frames):
        expected = perception(to_colour(frame, "rgb"))
        arrays = {name: to_array(messages[number]) for name, messages in bench.received.items()}
        np.testing.assert_array_equal(arrays["semantic"], expected.semantic)
        np.testing.assert_array_equal(arrays["mask"], expected.anomaly_mask * np.uint8(255))
        np.testing.assert_array_equal(arrays["score"], np.rint(expected.anomaly_score * 255))
        for messages in bench.received.values():
            assert messages[number].header == frame.header
    assert bench.settle(5)["published"] == 5


def test_the_score_comes_as_float_when_asked(bench: Bench, start_node: StartNode, shipped_bundle: Path) -> None:
    start_node(score_encoding="32FC1")
    bench.bring_up()
    bench.send(image())
    bench.spin_until(lambda: bench.received["score"], "the score")
    message = bench.received["score"][0]
    assert (message.encoding, message.step) == ("32FC1", message.width * 4)
    score = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
    perception = Perception(open_engine(read_bundle(shipped_bundle), "auto"), 0.5, 11)
    np.testing.assert_array_equal(score, perception(to_colour(image(), "rgb")).anomaly_score)


def test_input_sizes_above_the_parameter_are_left_out(
    bench: Bench, start_node: StartNode, shipped_bundle: Path
) -> None:
    node = start_node(score_encoding="32FC1", max_input_height=383)
    bench.bring_up()
    wide = image(0, (90, 160))
    bench.send(wide)
    bench.spin_until(lambda: bench.received["score"], "the score")
    score = np.frombuffer(bench.received["score"][0].data, np.float32).reshape(90, 160)
    bundle, frame = read_bundle(shipped_bundle), to_colour(wide, "rgb")
    limited, whole = (
        Perception(open_engine(one, "auto"), 0.5, 11)(frame).anomaly_score for one in (bundle.up_to(383), bundle)
    )
    np.testing.assert_array_equal(score, limited)
    assert not np.array_equal(score, whole)
    assert ", 480x640) on onnxruntime" in node.log


def test_the_overlay_is_published_once_somebody_subscribes(bench: Bench, start_node: StartNode) -> None:
    start_node()
    bench.bring_up()
    bench.send(image(0))
    bench.wait_for_outputs(1)
    overlays: list[Image] = []
    bench.node.create_subscription(Image, OVERLAY, overlays.append, RELIABLE)
    bench.spin_until(lambda: int(bench.facts.get(f"subscribers of {OVERLAY}", "0")), "the subscription")
    bench.send(image(1))
    bench.spin_until(lambda: overlays, "the overlay")
    assert len(overlays) == 1
    assert overlays[0].encoding == "rgb8"
    assert overlays[0].header == image(1).header


def test_the_four_transitions_six_times_without_growth(
    bench: Bench, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is freed goes back to the system at once. With glibc's defaults memory swings by 70 MB and hides a leak.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    node = start_node()
    after_each: list[dict[str, int]] = []
    for cycle in range(6):
        bench.bring_up()
        assert bench.state() == ACTIVE
        bench.send(image(cycle))
        bench.wait_for_outputs(cycle + 1)
        assert bench.transition("deactivate")
        assert bench.state() == INACTIVE
        assert bench.transition("cleanup")
        assert bench.state() == UNCONFIGURED
        after_each.append(node.resources())
    second, last = after_each[1], after_each[-1]
    assert last["threads"] <= second["threads"]
    assert last["descriptors"] <= second["descriptors"]
    # Measured: 2 MB from the second cycle to the sixth, then none up to the 25th. An engine that stays holds the
    # 13 MB of its model at least, every cycle.
    assert last["resident_kib"] - second["resident_kib"] < 10 * 1024, after_each
    assert node.stop() == 0


def _zero(message: Image) -> None:
    message.height = 0
    message.data = b""


def _small_step(message: Image) -> None:
    message.step = message.width


def _short(message: Image) -> None:
    message.data = message.data[:-1]


def _unknown(message: Image) -> None:
    message.encoding = "rainbow8"


def _depth(message: Image) -> None:
    message.encoding = "16UC1"


@pytest.mark.parametrize(
    ("spoil", "logged"),
    [
        (_zero, "height is 0"),
        (_small_step, "step is 160, but a row of 160 pixels rgb8 has 480 bytes; the publisher must set step"),
        (_short, "data has 57599 bytes, and 120 rows of 480 (step) need 57600"),
        (_unknown, "encoding is 'rainbow8', which is none of ROS's names"),
        (_depth, "encoding is '16UC1', which is not a colour camera's: it holds depth"),
    ],
)
def test_a_malformed_image_is_counted_logged_once_and_the_next_good_one_is_published(
    bench: Bench, start_node: StartNode, spoil: Callable[[Image], None], logged: str
) -> None:
    node = start_node()
    bench.bring_up()
    for number in range(2):
        bad = image(number)
        spoil(bad)
        bench.send(bad)
        bench.spin_until(lambda n=number: bench.facts.get("malformed") == str(n + 1), f"bad frame {number}")  # type: ignore[misc]
    bench.send(image(9))
    bench.wait_for_outputs(1)
    counts = bench.settle(3)
    assert (counts["malformed"], counts["published"]) == (2, 1)
    assert [m.header for m in bench.received["semantic"]] == [image(9).header]
    assert node.log.count(logged) == 1, node.log


def test_a_bad_bundle_path_fails_configure_and_the_node_can_be_configured_again(
    bench: Bench, start_node: StartNode, shipped_bundle: Path, tmp_path: Path
) -> None:
    node = start_node(bundle=tmp_path / "nowhere")
    assert not bench.transition("configure")
    assert bench.state() == UNCONFIGURED
    assert f"{tmp_path / 'nowhere'}: no such bundle folder" in node.log
    assert bench.set(bundle=str(shipped_bundle)) == [(True, "")]
    bench.bring_up()
    assert bench.state() == ACTIVE


def test_a_changed_model_fails_configure_until_it_is_restored(
    bench: Bench, start_node: StartNode, shipped_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(shipped_bundle, tmp_path / "bundle"))
    model = bundle / "model.onnx"
    good = model.read_bytes()
    model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    node = start_node(bundle=bundle)
    assert not bench.transition("configure")
    assert "model.onnx: SHA-256 is" in node.log
    model.write_bytes(good)
    assert bench.transition("configure")


@pytest.mark.parametrize(
    ("name", "bad", "good", "message"),
    [
        ("anomaly_threshold", 7.0, 0.5, "parameter 'anomaly_threshold'"),
        ("anomaly_threshold", -0.5, 0.5, "it must be in [0, 1], or -1"),
        ("anomaly_threshold", "high", 0.5, "parameter 'anomaly_threshold'"),
        ("num_threads", -3, 1, "parameter 'num_threads'"),
        ("engine", "abacus", "auto", "parameter 'engine' is 'abacus'; it must be one of auto, tensorrt"),
        ("score_encoding", "mono4", "mono8", "parameter 'score_encoding' is 'mono4'"),
        ("operating_point", "strict", "", "no operating point 'strict'"),
    ],
)
def test_an_impossible_parameter_fails_configure_and_names_it(
    bench: Bench, start_node: StartNode, name: str, bad: object, good: object, message: str
) -> None:
    node = start_node(**{name: bad})
    assert not bench.transition("configure")
    assert bench.state() == UNCONFIGURED
    assert message in node.log, node.log
    assert bench.set(**{name: good}) == [(True, "")]
    assert bench.transition("configure")


def test_what_is_read_at_configure_is_locked_until_cleanup(bench: Bench, start_node: StartNode) -> None:
    start_node()
    assert bench.transition("configure")
    [(accepted, reason)] = bench.set(num_threads=1)
    assert not accepted
    assert "num_threads: read at configure" in reason
    assert bench.transition("cleanup")
    assert bench.set(num_threads=1) == [(True, "")]


def test_a_frame_that_is_too_old_is_dropped_and_counted(bench: Bench, start_node: StartNode) -> None:
    start_node(max_frame_age_ms=10_000.0)
    bench.bring_up()
    bench.send(image())  # stamped in 1970
    fresh = image(1)
    now = time.time_ns()
    fresh.header.stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
    bench.settle(1)
    bench.send(fresh)
    counts = bench.settle(2)
    assert (counts["too_old"], counts["published"]) == (1, 1)
    assert [m.header for m in bench.received["semantic"]] == [fresh.header]


def test_under_overload_the_newest_frames_win_and_every_frame_is_accounted_for(
    bench: Bench, start_node: StartNode
) -> None:
    start_node(num_threads=1)
    bench.bring_up()
    total = 150
    for number in range(total):
        bench.send(image(number))
        bench.spin_for(0.01)
    bench.spin_until(lambda: bench.facts.get("sent") == str(total), "all frames")
    counts = bench.settle(total)
    assert counts["replaced_unread"] + counts["lost_in_transport"] > 0
    assert counts["published"] >= 2
    assert len(bench.received["semantic"]) == counts["published"]
    stamps = [m.header.stamp.sec for m in bench.received["semantic"]]
    assert stamps == sorted(stamps)
    assert stamps[-1] == 1000 + total - 1


def test_what_is_sent_while_inactive_is_neither_published_nor_counted_as_lost(
    bench: Bench, start_node: StartNode
) -> None:
    start_node()
    bench.bring_up()
    bench.send(image(0))
    bench.settle(1)
    assert bench.transition("deactivate")
    bench.spin_until(lambda: not bench.camera.get_subscription_count(), "the end of the subscription")
    bench.send(image(1))
    assert bench.transition("activate")
    bench.wait_for_discovery()
    bench.send(image(2))
    counts = bench.settle(2)
    assert (counts["published"], counts["lost_in_transport"]) == (2, 0)
    assert [m.header for m in bench.received["semantic"]] == [image(0).header, image(2).header]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("transitions", [(), ("configure",), ("configure", "activate")])
def test_a_signal_ends_the_node_with_code_0_in_every_state(
    bench: Bench, start_node: StartNode, transitions: tuple[str, ...], number: int
) -> None:
    node = start_node()
    for name in transitions:
        assert bench.transition(name)
    bench.state()
    assert node.stop(number) == 0, node.log
    assert "Traceback" not in node.log


def test_a_signal_under_load_ends_the_node_with_code_0(bench: Bench, start_node: StartNode) -> None:
    node = start_node()
    bench.bring_up()
    for number in range(30):
        bench.send(image(number))
        bench.spin_for(0.01)
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log


def test_an_override_of_one_outputs_qos_leaves_the_others_alone(bench: Bench, start_node: StartNode) -> None:
    name = "qos_overrides./perception_node/output/anomaly/mask.publisher.reliability"
    start_node(**{name: "best_effort"})
    assert bench.transition("configure")
    reliability = {}
    for topic in OUTPUTS.values():
        [info] = bench.node.get_publishers_info_by_topic(topic)
        reliability[topic] = info.qos_profile.reliability
    assert [topic for topic, kind in reliability.items() if kind == ReliabilityPolicy.BEST_EFFORT] == [OUTPUTS["mask"]]


def test_a_qos_override_that_is_none_fails_activate_and_the_node_still_ends(
    bench: Bench, start_node: StartNode
) -> None:
    node = start_node(**{f"qos_overrides.{INPUT_TOPIC}.subscription.reliability": "bestEffort"})
    assert bench.transition("configure")
    assert not bench.transition("activate")
    assert "on_activate raised" in node.log
    assert bench.state() == UNCONFIGURED
    assert node.stop() == 0


def test_a_missing_transport_profile_is_warned_of_with_the_fix(
    bench: Bench, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    node = start_node()
    assert bench.transition("configure")
    assert "images above 512 KB may be lost silently. Remedy: set FASTDDS_DEFAULT_PROFILES_FILE" in node.log


def test_a_transition_that_the_state_does_not_allow_is_refused_and_the_node_lives(
    bench: Bench, start_node: StartNode
) -> None:
    start_node()
    assert not bench.transition("activate")
    assert not bench.transition("cleanup")
    assert bench.state() == UNCONFIGURED
    assert bench.transition("configure")


def test_the_parameters_are_declared_with_descriptions_and_ranges(bench: Bench, start_node: StartNode) -> None:
    from rcl_interfaces.srv import DescribeParameters

    start_node()
    client = bench.node.create_client(DescribeParameters, "/perception_node/describe_parameters")
    names = ["bundle", "engine", "num_threads", "operating_point", "anomaly_threshold", "max_frame_age_ms"]
    descriptors = bench.call(client, DescribeParameters.Request(names=names)).descriptors
    assert all(d.description for d in descriptors)
    ranges = {d.name: d for d in descriptors}
    assert ranges["anomaly_threshold"].floating_point_range[0].to_value == 1.0
    assert ranges["num_threads"].integer_range[0].from_value == 0


def test_the_input_topic_is_the_remapped_one(bench: Bench, start_node: StartNode) -> None:
    start_node()
    bench.bring_up()
    assert [i.node_name for i in bench.node.get_subscriptions_info_by_topic(INPUT_TOPIC)] == ["perception_node"]


def test_with_autostart_the_node_is_active_without_being_asked(
    bench: Bench, start_node: Callable[..., NodeProcess]
) -> None:
    node = start_node(autostart=True)
    bench.spin_until(lambda: "active: listening on /camera/image_raw" in node.log, "the node's own start")
    assert bench.state() == ACTIVE
    assert node.stop() == 0


def test_autostart_that_fails_is_logged_and_can_be_mended(
    bench: Bench, start_node: Callable[..., NodeProcess], shipped_bundle: Path
) -> None:
    node = start_node(autostart=True, bundle="/nowhere")
    bench.spin_until(lambda: "configure failed: /nowhere: no such bundle folder" in node.log, "the reason")
    bench.spin_until(lambda: "the node stays up, unconfigured, and publishes nothing" in node.log, "what it does now")
    assert bench.state() == UNCONFIGURED
    assert bench.set(bundle=str(shipped_bundle)) == [(True, "")]
    bench.bring_up()
    assert bench.state() == ACTIVE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_system_hands_to_another_thread_ends_the_node(
    bench: Bench, start_node: StartNode, number: int
) -> None:
    node = start_node()
    bench.wait_for_answers()
    process = node.process.pid
    others = [int(thread) for thread in os.listdir(f"/proc/{process}/task") if int(thread) != process]
    # Those that take signals; the one of faulthandler blocks them.
    others = [thread for thread in others if "SigBlk:\t0000000000000000" in _status(process, thread)]
    tgkill = 234  # of x86-64; 131 elsewhere
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(tgkill if platform.machine() == "x86_64" else 131, process, others[0], number) == 0
    bench.spin_until(lambda: node.process.poll() is not None, "the end of the process", 20.0)
    assert node.process.returncode == 0


def _status(process: int, thread: int) -> str:
    return Path(f"/proc/{process}/task/{thread}/status").read_text()
