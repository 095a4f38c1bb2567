"""A real node's log and diagnostics: losses with their cause, changes of the state, and a node without subscribers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import INPUT_TOPIC, OUTPUTS, ROOT, Bench, CameraProcess, NodeProcess, image
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image

from ros_ood_perception.launching.transport_environment import PROFILE_VARIABLES

pytestmark = pytest.mark.alone

StartNode = Callable[..., NodeProcess]
StartCamera = Callable[..., CameraProcess]


def test_a_camera_without_the_transport_profile_is_named_within_ten_seconds(
    bench: Bench,
    start_node: StartNode,
    start_camera: StartCamera,
    brightness_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = start_node(bundle=brightness_bundle, diagnostics_period_s=0.2, autostart=True)
    bench.wait_for_discovery()
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    camera = start_camera(INPUT_TOPIC, 20.0, "--size", "1080", "1920", "--best-effort")
    camera.wait_until_ready()
    bench.spin_until(lambda: int(bench.facts["lost_by_middleware"]), "the first loss", 20.0)
    begun = time.monotonic()
    bench.spin_until(lambda: "frames_lost" in node.log, "the line in the log", 10.0)
    bench.spin_until(lambda: "frames_lost" in bench.status["camera"].message, "the warning", 10.0)
    assert time.monotonic() - begun < 10.0
    profile = ROOT / "config" / "fastdds_large_images.xml"
    for said in (node.log, bench.status["camera"].message):
        assert "the camera's process was started without the transport profile" in said
        assert re.search(f"set FASTDDS_DEFAULT_PROFILES_FILE .* to {profile} in the environment of the camera", said)
    assert bench.status["camera"].level != DiagnosticStatus.OK
    assert float(bench.facts["lost_percent"]) > 50
    sent = camera.stop()
    bench.spin_for(0.5)
    counts = bench.accounting()
    losses = int(bench.facts["lost_by_middleware"]) + int(bench.facts["overwritten_in_queue"])
    assert counts["lost_in_transport"] == losses
    # A reader learns of a publisher a little late; the publisher's last frames may be lost without a later one to show.
    assert sent - 25 <= counts["sent"] <= sent
    assert node.log.count("frames_lost") <= 3


def test_the_log_tells_of_states_sizes_and_parameters_and_of_frames_that_nobody_subscribes_to(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, diagnostics_period_s=0.2, stale_after_s=0.5)
    bench.bring_up()
    bench.spin_until(lambda: re.search(r"\[WARN\].* camera: waiting: no frame for", node.log), "waiting")
    bench.send(image(0))
    bench.spin_until(lambda: re.search(r"\[INFO\].* camera: active after .* 'waiting'", node.log), "active")
    bench.spin_until(lambda: re.search(r"\[ERROR\].* camera: stale after .* 'active': no frame", node.log), "stale")
    # Frames of this size are not lost for want of the profile.
    assert "none of their frames arrives\n" in node.log
    bench.send(image(1, (90, 160)))
    bench.spin_until(lambda: re.search("active after .*'stale'", node.log), "recovery")
    assert re.search(r"\[WARN\].* camera: the image size changed from 160x120 to 160x90", node.log)
    # The severity is that of the diagnostics.
    bench.spin_until(lambda: re.search(r"\[WARN\].* camera: wrong_size: 160x90, the first", node.log), "the warning")
    assert bench.set(stale_after_s=60.0, anomaly_threshold=0.25) == [(True, ""), (True, "")]
    assert bench.set(anomaly_threshold=0.25, max_image_pixels=5)[1][0] is False
    bench.spin_until(lambda: "parameters changed: stale_after_s from 0.5 to 60.0" in node.log, "the parameters")
    assert node.log.count("parameters changed") == 2
    assert "parameters changed: anomaly_threshold from -1.0 to 0.25" in node.log
    without_subscribers(bench, node)


def without_subscribers(bench: Bench, node: NodeProcess) -> None:
    """The node has published two frames."""
    for listener in [s for s in bench.node.subscriptions if s.topic_name in OUTPUTS.values()]:
        bench.node.destroy_subscription(listener)

    def subscribers() -> int:
        return sum(int(bench.facts[f"subscribers of {topic}"]) for topic in OUTPUTS.values())

    bench.spin_until(lambda: not subscribers(), "the node's knowledge that nobody subscribes")
    bench.send(image(2))
    counts = bench.settle(3)
    assert (counts["published"], counts["computed"], counts["asleep"]) == (2, 1, 0)
    assert bench.facts["state"] == "active"
    inference_ms = bench.facts["inference_ms_p99"]
    assert bench.set(sleep_without_subscribers=True) == [(True, "")]
    bench.send(image(3))
    counts = bench.settle(4)
    assert (counts["published"], counts["computed"], counts["asleep"]) == (2, 1, 1)
    assert bench.facts["inference_ms_p99"] == inference_ms
    assert bench.facts["state"] == "asleep"
    assert bench.status["camera"].level == DiagnosticStatus.OK
    assert "no output has a subscriber" in bench.status["camera"].message
    assert "camera: asleep after" in node.log
    masks: list[Image] = []
    bench.node.create_subscription(Image, OUTPUTS["mask"], masks.append, 5)
    bench.spin_until(subscribers, "the node's knowledge of it")
    bench.send(image(4))
    assert bench.settle(5)["published"] == 3
    bench.spin_until(lambda: masks, "the mask")
    assert bench.facts["state"] == "active"
