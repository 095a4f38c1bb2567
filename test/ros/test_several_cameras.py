"""Cameras, node and consumers in processes of their own, under more load than the engine can take."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench import ROOT, Bench, CameraProcess, NodeProcess, end
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

StartNode = Callable[..., NodeProcess]
StartCamera = Callable[..., CameraProcess]
CAMERAS = ("front", "left", "right")
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def slow_planner() -> object:
    planner = subprocess.Popen([sys.executable, str(ROOT / "test" / "ros" / "slow_planner.py"), "/front"])
    yield planner
    end([planner])


def test_three_cameras_at_twice_what_the_engine_takes_get_equal_shares_and_lose_no_frame_from_sight(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, slow_planner: object
) -> None:
    start_node(cameras=CAMERAS, num_threads=1)
    assert bench.transition("configure")
    masks: dict[str, list[Image]] = {name: [] for name in CAMERAS}
    for name in CAMERAS:
        topic = f"/perception_node/{name}/output/semantic/mask"
        bench.node.create_subscription(Image, topic, masks[name].append, RELIABLE)
    assert bench.transition("activate")
    cameras = [start_camera(f"/{name}/image_raw", 20.0, "--size", "480", "640") for name in CAMERAS]
    for camera in cameras:
        camera.wait_until_ready()
    bench.spin_for(1.5)
    begun = {name: bench.accounting(name) for name in CAMERAS}
    bench.spin_for(10.0)
    shares = [bench.accounting(name)["published"] - begun[name]["published"] for name in CAMERAS]
    arrived = sum(bench.accounting(name)["sent"] - begun[name]["sent"] for name in CAMERAS)
    assert sum(shares) <= arrived / 2, "the engine was not overloaded: the test shows nothing"
    assert max(shares) - min(shares) <= max(1, 0.1 * float(np.mean(shares))), shares
    # A subscriber that comes late gets the state at once, as it is latched, and the masks from now on.
    states: list[DiagnosticStatus] = []
    bench.node.create_subscription(DiagnosticStatus, "/perception_node/left/output/state", states.append, LATCHED)
    bench.spin_until(lambda: states, "the latched state")
    assert states[0].message.startswith("active")
    sent = {name: camera.stop() for name, camera in zip(CAMERAS, cameras, strict=True)}
    bench.spin_until(
        lambda: all(
            int(bench.facts_of(name)["sent"]) >= sent[name] - 1 and bench.facts_of(name)["in_progress"] == "0"
            for name in CAMERAS
        ),
        "an account of every camera",
    )
    for name in CAMERAS:
        counts = bench.accounting(name)
        # Sent is counted from the first frame heard: at most the first ones may be from before.
        assert sent[name] - 1 <= counts["sent"] <= sent[name]
        assert counts["malformed"] == counts["failed"] == counts["too_old"] == 0
        assert counts["replaced_unread"] + counts["lost_in_transport"] > 0
        assert {mask.header.frame_id for mask in masks[name]} == {name}
        stamps = [(mask.header.stamp.sec, mask.header.stamp.nanosec) for mask in masks[name]]
        assert stamps == sorted(set(stamps))
        bench.spin_until(lambda name=name: len(masks[name]) == bench.accounting(name)["published"], "every mask")  # type: ignore[misc]


def test_a_camera_that_is_killed_and_started_again_is_heard_again(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, brightness_bundle: Path
) -> None:
    start_node(bundle=brightness_bundle, cameras=CAMERAS[:2], stale_after_s=1.5, diagnostics_period_s=0.2)
    assert bench.transition("configure")
    assert bench.transition("activate")
    front, left = (start_camera(f"/{name}/image_raw", 20.0, "--size", "120", "160") for name in CAMERAS[:2])
    front.wait_until_ready()
    left.wait_until_ready()
    bench.spin_until(lambda: int(bench.facts_of("front").get("computed", "0")) > 10, "frames")
    front.kill()
    bench.spin_until(lambda: bench.facts_of("front")["state"] == "stale", "the stale state")
    assert bench.status["front"].level == DiagnosticStatus.ERROR
    bench.spin_until(lambda: bench.facts_of("left")["state"] == "active", "the other camera's state")
    before = bench.accounting("front")
    front = start_camera("/front/image_raw", 20.0, "--size", "120", "160")
    front.wait_until_ready()
    bench.spin_until(lambda: int(bench.facts_of("front")["computed"]) > before["computed"] + 10, "frames again")
    bench.spin_until(lambda: bench.facts_of("front")["state"] == "active", "the active state")
    sent = front.stop()
    left.stop()
    bench.spin_until(lambda: bench.facts_of("front")["in_progress"] == "0", "rest")
    bench.spin_for(0.5)
    after = bench.accounting("front")
    # The new publisher's numbering is its own: what was not sent is not lost.
    assert after["sent"] - before["sent"] <= sent


def test_the_state_of_a_camera_that_dies_is_invalid_at_once_however_seldom_the_diagnostics_come(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, brightness_bundle: Path
) -> None:
    start_node(bundle=brightness_bundle, stale_after_s=2.0, diagnostics_period_s=60.0)
    states: list[tuple[float, str]] = []

    def add(message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        states.append((time.monotonic(), f"{values['state']} {values['valid']}"))

    bench.node.create_subscription(DiagnosticStatus, "/perception_node/output/state", add, LATCHED)
    assert bench.transition("configure")
    assert bench.transition("activate")
    camera = start_camera("/camera/image_raw", 20.0, "--size", "120", "160")
    camera.wait_until_ready()
    bench.spin_until(lambda: states and states[-1][1] == "active true", "the active state")
    bench.spin_for(1.0)
    camera.kill()
    died = time.monotonic()
    bench.spin_until(lambda: states[-1][1] == "stale false", "the stale state", timeout_s=30.0)
    # Two seconds and half a one; the rest is for a busy machine.
    assert states[-1][0] - died < 10.0
    # Every state once: it is published when it changes, not when it is looked at.
    bench.spin_for(2.0)
    texts = [text for _, text in states]
    assert all(now != before for before, now in itertools.pairwise(texts)), texts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_that_is_ended_under_load_starts_again_and_the_consumer_gets_masks_again(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, brightness_bundle: Path, number: int
) -> None:
    camera = start_camera("/camera/image_raw", 30.0, "--size", "120", "160")
    for life in range(2):
        node = start_node(bundle=brightness_bundle)
        bench.wait_for_answers()
        bench.bring_up()
        if life == 0:
            camera.wait_until_ready()
        seen = len(bench.received["semantic"])
        bench.spin_until(lambda seen=seen: len(bench.received["semantic"]) > seen + 10, "masks")  # type: ignore[misc]
        assert node.stop(number) == (0 if number == signal.SIGTERM else -number)
        assert "Traceback" not in node.log
        bench.facts = {}


def test_compressed_frames_give_the_masks_of_the_decoded_image_and_bad_ones_give_none(
    bench: Bench, start_node: StartNode, shipped_bundle: Path
) -> None:
    import cv2
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CompressedImage
    from std_msgs.msg import Header

    from ros_ood_perception.bundle.model_bundle import read_bundle
    from ros_ood_perception.camera.raw_image import to_array
    from ros_ood_perception.inference.opening import open_engine
    from ros_ood_perception.inference.perception import Perception

    node = start_node(image_transport="compressed", max_image_pixels=100_000)
    publisher = bench.node.create_publisher(CompressedImage, "/perception_node/input/image/compressed", RELIABLE)
    assert bench.transition("configure")
    assert bench.transition("activate")
    bench.wait_for_node(publisher)
    bench.spin_until(
        lambda: int(bench.facts.get("subscribers of /perception_node/output/semantic/mask", "0")), "the bench"
    )
    bench.spin_for(0.5)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    png, jpeg = (cv2.imencode(extension, image)[1].tobytes() for extension in (".png", ".jpg"))
    large = cv2.imencode(".jpg", np.zeros((400, 400, 3), np.uint8))[1].tobytes()
    for second, data in enumerate((png, jpeg, png[:-20], jpeg[: len(jpeg) // 2], b"no image", b"", large, png), 1):
        header = Header(stamp=Time(sec=second), frame_id="lens")
        publisher.publish(CompressedImage(header=header, format="png", data=data))
        bench.spin_until(lambda second=second: bench.facts.get("sent") == str(second), "the account")  # type: ignore[misc]
    counts = bench.settle(8)
    assert (counts["published"], counts["malformed"]) == (3, 5)
    bench.wait_for_outputs(3)
    assert [m.header.stamp.sec for m in bench.received["semantic"]] == [1, 2, 8]
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    perception = Perception(open_engine(read_bundle(shipped_bundle), "auto"), 0.5, 11)
    np.testing.assert_array_equal(to_array(bench.received["semantic"][1]), perception(decoded).semantic)
    assert node.log.count("malformed image dropped: the PNG ends in") == 1
    assert "the image is 400x400, more than 100000 pixels" in node.log
