"""The SROS 2 policy against the real node: all that it makes is allowed, and nothing else is."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench import ROOT, Bench
from brightness_bundle import write_brightness_bundle

from ros_ood_perception.launching.topic_presets import read_preset, remappings
from ros_ood_perception.node.camera_outputs import has_vision_msgs
from ros_ood_perception.node.middleware.security_policy import NODE, Endpoints, endpoints, main, policy

FILE = ROOT / "config" / "security" / "perception_node.policy.xml"


def of_graph(bench: Bench, namespace: str) -> tuple[Endpoints, set[str]]:
    """What the node has, and the services that it calls."""
    node = bench.node
    return (
        Endpoints(
            tuple(sorted(name for name, _ in node.get_publisher_names_and_types_by_node(NODE, namespace))),
            tuple(sorted(name for name, _ in node.get_subscriber_names_and_types_by_node(NODE, namespace))),
            tuple(sorted(name for name, _ in node.get_service_names_and_types_by_node(NODE, namespace))),
        ),
        {name for name, _ in node.get_client_names_and_types_by_node(NODE, namespace)},
    )


def of_file(text: str) -> Endpoints:
    """What a policy allows."""
    root = ElementTree.fromstring(text)
    names = {}
    for kind, rule in (("topic", "publish"), ("topic", "subscribe"), ("service", "reply")):
        groups = root.findall(f"enclaves/enclave/profiles/profile/{kind}s[@{rule}='ALLOW']")
        names[rule] = tuple(str(element.text) for group in groups for element in group)
    return Endpoints(names["publish"], names["subscribe"], names["reply"])


def without_what_is_not_installed(found: Endpoints) -> Endpoints:
    publishes, subscribes = set(found.publishes), set(found.subscribes)
    if not has_vision_msgs():
        publishes = {name for name in publishes if not name.endswith(("/label_info", "/detections"))}
    if find_spec("tf2_ros") is None:
        subscribes -= {"/tf", "/tf_static"}
    return Endpoints(tuple(sorted(publishes)), tuple(sorted(subscribes)), found.replies)


@pytest.mark.parametrize(
    ("cameras", "preset", "transport", "namespace", "odometry"),
    [(("",), "plain", "raw", "/", ""), (("front", "left"), "autoware", "compressed", "/car", "/wheels/odometry")],
)
def test_the_policy_allows_what_the_node_makes_and_nothing_else(
    bench: Bench,
    start_node: object,
    tmp_path: Path,
    cameras: tuple[str, ...],
    preset: str,
    transport: str,
    namespace: str,
    odometry: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [
        sys.executable,
        "-m",
        "ros_ood_perception.node.perception_node",
        "--ros-args",
        "-r",
        f"__ns:={namespace}",
    ]
    for private, public in remappings(read_preset(preset), cameras):
        command += ["-r", f"{private}:={public}"]
    node = start_node(  # type: ignore[operator]
        command=command,
        cameras=() if cameras == ("",) else cameras,
        bundle=write_brightness_bundle(tmp_path / "bundle"),
        image_transport=transport,
        autostart=True,
        **({"ground.odometry_topic": odometry} if odometry else {}),
    )
    bench.spin_until(lambda: "active: listening" in node.log, "the node")
    bench.spin_until(lambda: (NODE, namespace) in bench.node.get_node_names_and_namespaces(), "the node on the graph")
    allowed = endpoints(cameras, preset, transport, namespace, odometry=odometry)
    expected = without_what_is_not_installed(allowed)
    bench.spin_until(lambda: of_graph(bench, namespace) == (expected, set()), "the graph that the policy allows")
    capsys.readouterr()
    arguments = ["--cameras", ",".join(cameras), "--preset", preset, "--image-transport", transport]
    assert main([*arguments, "--namespace", namespace, "--odometry", odometry]) == 0
    assert of_file(capsys.readouterr().out) == allowed
    assert node.stop() == 0


def test_the_file_is_that_of_the_defaults() -> None:
    assert FILE.read_text() == policy(endpoints())
    assert of_file(FILE.read_text()) == endpoints()
    assert "*" not in FILE.read_text()


def test_a_pose_that_is_given_and_simulated_time_change_the_subscriptions() -> None:
    with_both = endpoints(transforms=False, simulated_time=True).subscribes
    assert set(with_both) ^ set(endpoints().subscribes) == {"/tf", "/tf_static", "/clock"}


def test_with_security_enforced_and_no_keys_no_node_starts(start_node: object, tmp_path: Path) -> None:
    environment = {
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        command = [sys.executable, "-m", "ros_ood_perception.node.perception_node"]
        node = start_node(command=[*command, "--ros-args", "--enclave", "/perception_node"])  # type: ignore[operator]
        assert node.process.wait(60) == 2
    assert f"{tmp_path}/enclaves/perception_node" in node.log
