"""The live part of the demo: player, node and recorder as processes of their own, and what drives them."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rich.console import Console

from demo.bag_geometry import BagGeometry
from demo.drive_truth import DriveTruth
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.frame_source import FrameSource

INPUT_TOPIC = "/camera/image_raw"
INFO_TOPIC = "/camera/camera_info"
NODE = "/perception_node"
IMAGE_TOPICS = {name: f"{NODE}/{OUTPUT_TOPICS[name]}" for name in ("semantic_mask", "anomaly_mask", "anomaly_score")}
"""Name to topic of the recorded outputs that are images."""
OBSTACLES_TOPIC = f"{NODE}/{OUTPUT_TOPICS['obstacles']}"
RECORDED_TYPES = {
    **dict.fromkeys(IMAGE_TOPICS.values(), "sensor_msgs/msg/Image"),
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
DRIVABLE_CLASSES = ("road",)
OPERATING_POINT = "drivable_fpr_0.001"
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 15.0


class DemoError(PerceptionError, RuntimeError):
    """The demo cannot go on. The message says at which step, and where to look."""


@dataclass(frozen=True)
class Played:
    """What is played, and what is known of it.

    Attributes:
        path: of the frames or the bag.
        geometry: None where obstacles have no place on the ground.
        truth: of a sample drive.
    """

    path: Path
    source: FrameSource
    geometry: BagGeometry | None
    truth: DriveTruth | None


class GraphClient:
    """Drives the node's lifecycle and reads its diagnostics, from this process."""

    def __init__(self) -> None:
        rclpy.init()
        self._node = Node("demo")
        self._change_state = self._node.create_client(ChangeState, f"{NODE}/change_state")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.facts: dict[str, str] = {}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(NODE.lstrip("/")):
                self.facts = {pair.key: pair.value for pair in status.values}

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float, alive: Callable[[], None]) -> None:
        """Spin until the condition holds.

        Raises:
            DemoError: it does not hold in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            alive()
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {timeout_s:.0f} s")
            rclpy.spin_once(self._node, timeout_sec=0.1)

    def transition(self, label: str, transition: int, alive: Callable[[], None]) -> None:
        """One lifecycle transition.

        Raises:
            DemoError: refused or failed.
        """
        self.wait_for("the node's lifecycle service", self._change_state.service_is_ready, START_TIMEOUT_S, alive)
        future = self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.wait_for(f"the transition '{label}'", future.done, START_TIMEOUT_S, alive)
        if not future.result().success:
            raise DemoError(f"the node refused to {label}; its log says why")

    def close(self) -> None:
        self._node.destroy_node()
        # Ctrl-C has shut rclpy down already.
        rclpy.try_shutdown()


@contextmanager
def process(arguments: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a process whose output goes to a file. It ends at the latest with the block, or with us."""
    with log.open("wb") as output:
        command = ends_with_this_process([sys.executable, "-m", *arguments])
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def end(child: subprocess.Popen[bytes], name: str, log: Path) -> int:
    """SIGINT, as Ctrl-C would; the exit code."""
    child.send_signal(signal.SIGINT)
    try:
        return child.wait(20)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"the {name} did not end within 20 s of SIGINT; see {log}") from error


def node_parameters(options: argparse.Namespace, played: Played, bundle: Bundle) -> dict[str, Any]:
    """What the live node runs with, and a replay of the same frames; engine and threads apart."""
    parameters: dict[str, Any] = dict(played.geometry.parameters) if played.geometry else {}
    if options.threshold is not None:
        parameters["anomaly_threshold"] = float(options.threshold)
    # As on a vehicle: what does not stand on the road is no obstacle. Other recordings may show no road at all.
    drivable = [known.name for known in bundle.description.classes if known.name in DRIVABLE_CLASSES]
    if played.truth is not None and drivable:
        parameters |= {"region.drivable_classes": drivable, "region.surroundings": 0.0, "persistence.seen_frames": 3}
        # Only the road counts, so the threshold is one that was chosen on the road.
        points = {point.name for point in bundle.description.operating_points}
        if options.threshold is None and OPERATING_POINT in points:
            parameters["operating_point"] = OPERATING_POINT
    return parameters


def play_and_record(
    options: argparse.Namespace, played: Played, bundle: Bundle, console: Console
) -> tuple[dict[str, str], int]:
    """The live part: start everything, play every frame, end everything.

    Returns:
        The node's last diagnostics, and its exit code.
    """
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts in this process
    env = dict(os.environ)
    out: Path = options.out
    logs = {name: out / "logs" / f"{name}.log" for name in ("node", "recorder", "player")}
    logs["node"].parent.mkdir(parents=True)
    node_arguments = ["ros_ood_perception.node.perception_node", "--ros-args", "-r", f"~/input/image:={INPUT_TOPIC}"]
    node_arguments += ["-r", f"~/input/camera_info:={INFO_TOPIC}"]
    parameters = {"bundle": bundle.folder.resolve(), "engine": options.engine, "num_threads": options.threads}
    for name, value in {**parameters, **node_parameters(options, played, bundle)}.items():
        node_arguments += ["-p", f"{name}:={value}"]
    recorder_arguments = ["demo.output_recorder", str(out / BAG_FOLDER)]
    recorder_arguments += ["--arrivals", str(out / "arrivals.jsonl")]
    recorded = RECORDED_TYPES | ({OBSTACLES_TOPIC: "sensor_msgs/msg/PointCloud2"} if played.geometry else {})
    recorder_arguments += [f"{topic}:{kind}" for topic, kind in recorded.items()]
    player_arguments = ["demo.frame_player", str(played.path), "--publish-to", INPUT_TOPIC]
    player_arguments += ["--record", str(out / "sent.jsonl")]
    if played.geometry:
        player_arguments += ["--topic", played.geometry.image_topic, "--info-to", INFO_TOPIC]
    elif options.topic:
        player_arguments += ["--topic", options.topic]
    if options.rate:
        player_arguments += ["--rate", str(options.rate)]
    if options.paced:
        player_arguments += ["--paced-by", IMAGE_TOPICS["semantic_mask"]]

    with (
        process(node_arguments, logs["node"], env) as node,
        process(recorder_arguments, logs["recorder"], env) as recorder,
    ):
        client = GraphClient()

        def alive() -> None:
            for name, child in (("node", node), ("recorder", recorder)):
                if child.poll() is not None:
                    raise DemoError(f"the {name} ended early with code {child.returncode}; see {logs[name]}")

        try:
            client.transition("configure", Transition.TRANSITION_CONFIGURE, alive)
            client.transition("activate", Transition.TRANSITION_ACTIVATE, alive)

            def unrecorded() -> list[str]:
                outputs = [topic for topic in recorded if topic.startswith(NODE)]
                return [topic for topic in outputs if not int(client.facts.get(f"subscribers of {topic}", "0"))]

            try:
                client.wait_for("the recorder on every output", lambda: not unrecorded(), START_TIMEOUT_S, alive)
            except DemoError as error:
                known = f"the node knows of no subscriber of {', '.join(unrecorded())}"
                raise DemoError(f"{error}; {known if client.facts else 'no diagnostics came from it'}") from error
            with process(player_arguments, logs["player"], env) as player, progress_bar(console) as bar:
                task = bar.add_task("playing through the live node", total=len(played.source))

                def ended() -> bool:
                    bar.update(task, completed=int(client.facts.get("sent", "0")))
                    return player.poll() is not None

                client.wait_for("the player", ended, float("inf"), alive)
                if player.returncode:
                    raise DemoError(f"the player ended with code {player.returncode}; see {logs['player']}")
                bar.update(task, completed=len(played.source))
            client.wait_for(
                "the node at rest",
                lambda: client.facts.get("in_progress") == "0" and int(client.facts["sent"]) > 0,
                SETTLE_TIMEOUT_S,
                alive,
            )
            client.transition("deactivate", Transition.TRANSITION_DEACTIVATE, alive)
            # The node says where every frame went when it goes inactive; let the recorder have it too.
            client.wait_for("the recorder", _after(1.0), SETTLE_TIMEOUT_S, alive)
        finally:
            client.close()
        if end(recorder, "recorder", logs["recorder"]):
            raise DemoError(f"the recorder failed; see {logs['recorder']}")
        return client.facts, end(node, "node", logs["node"])


def _after(seconds: float) -> Callable[[], bool]:
    due = time.monotonic() + seconds
    return lambda: time.monotonic() >= due
