"""Plays frames through the live node and records its outputs."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from lifecycle_msgs.msg import Transition
from rich.console import Console

from demo.demo_input import DemoError, DemoInput
from demo.live.graph_client import START_TIMEOUT_S, GraphClient
from demo.live.node_parameters import node_parameters
from demo.live.processes import end, process
from demo.live.topics import COMPRESSED, IMAGE_TOPICS, INFO_TOPIC, INPUT_TOPIC, NODE, OBSTACLES_TOPIC
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag_files import BAG_FOLDER

REST_TIMEOUT_S = 15.0
"""For the frames under way to reach their end."""
RECORDED_TYPES = {
    **dict.fromkeys(IMAGE_TOPICS.values(), "sensor_msgs/msg/Image"),
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}


def play_and_record(
    options: argparse.Namespace, played: DemoInput, bundle: Bundle, console: Console
) -> tuple[dict[str, str], int]:
    """Start the graph, play every frame, end the graph.

    Returns:
        The node's last diagnostics, and its exit code.

    Raises:
        DemoError: a process ended early, or a step took too long.
    """
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts in this process
    env = dict(os.environ)
    logs = {name: options.out / "logs" / f"{name}.log" for name in ("node", "recorder", "player")}
    logs["node"].parent.mkdir(parents=True)
    recorded = RECORDED_TYPES | ({OBSTACLES_TOPIC: "sensor_msgs/msg/PointCloud2"} if played.geometry else {})
    with (
        process(_node_arguments(options, played, bundle), logs["node"], env) as node,
        process(_recorder_arguments(options.out, recorded), logs["recorder"], env) as recorder,
    ):

        def alive() -> None:
            for name, child in (("node", node), ("recorder", recorder)):
                if child.poll() is not None:
                    raise DemoError(f"the {name} ended early with code {child.returncode}; see {logs[name]}")

        client = GraphClient(alive)
        try:
            client.transition("configure", Transition.TRANSITION_CONFIGURE)
            client.transition("activate", Transition.TRANSITION_ACTIVATE)
            _wait_for_recorder(client, [topic for topic in recorded if topic.startswith(NODE)])
            with process(_player_arguments(options, played), logs["player"], env) as player:
                _play(client, player, len(played.frames), logs["player"], console)
            _end_node(client)
        finally:
            client.close()
        if end(recorder, "recorder", logs["recorder"]):
            raise DemoError(f"the recorder failed; see {logs['recorder']}")
        return client.facts, end(node, "node", logs["node"])


def _node_arguments(options: argparse.Namespace, played: DemoInput, bundle: Bundle) -> list[str]:
    ending = COMPRESSED if played.frames.compressed else ""
    remapped = f"~/input/image{ending}:={INPUT_TOPIC}{ending}"
    arguments = ["ros_ood_perception.node.perception_node", "--ros-args", "-r", remapped]
    arguments += ["-r", f"~/input/camera_info:={INFO_TOPIC}"]
    parameters = {"bundle": bundle.folder.resolve(), "engine": options.engine, "num_threads": options.threads}
    parameters["image_transport"] = "compressed" if played.frames.compressed else "raw"
    for name, value in {**parameters, **node_parameters(options.threshold, played, bundle.description)}.items():
        arguments += ["-p", f"{name}:={value}"]
    return arguments


def _recorder_arguments(out: Path, recorded: dict[str, str]) -> list[str]:
    arguments = ["demo.live.output_recorder", str(out / BAG_FOLDER), "--arrivals", str(out / "arrivals.jsonl")]
    return [*arguments, *(f"{topic}:{kind}" for topic, kind in recorded.items())]


def _player_arguments(options: argparse.Namespace, played: DemoInput) -> list[str]:
    arguments = ["demo.live.frame_player", str(played.path), "--publish-to", INPUT_TOPIC]
    arguments += ["--record", str(options.out / "sent.jsonl")]
    if played.geometry:
        arguments += ["--topic", played.geometry.image_topic, "--info-to", INFO_TOPIC]
        if played.odometry:
            arguments += ["--odometry", played.odometry]
    elif options.topic:
        arguments += ["--topic", options.topic]
    if options.rate:
        arguments += ["--rate", str(options.rate)]
    if options.paced:
        arguments += ["--paced-by", IMAGE_TOPICS["semantic_mask"]]
    return arguments


def _wait_for_recorder(client: GraphClient, outputs: list[str]) -> None:
    """Until the node knows of a subscriber of every output."""

    def unrecorded() -> list[str]:
        return [topic for topic in outputs if not int(client.facts.get(f"subscribers of {topic}", "0"))]

    try:
        client.wait_for("the recorder on every output", lambda: not unrecorded(), START_TIMEOUT_S)
    except DemoError as error:
        known = f"the node knows of no subscriber of {', '.join(unrecorded())}"
        raise DemoError(f"{error}; {known if client.facts else 'no diagnostics came from it'}") from error


def _play(client: GraphClient, player: subprocess.Popen[bytes], frames: int, log: Path, console: Console) -> None:
    """Until the player has sent every frame."""
    with progress_bar(console) as bar:
        task = bar.add_task("playing through the live node", total=frames)

        def ended() -> bool:
            bar.update(task, completed=int(client.facts.get("sent", "0")))
            return player.poll() is not None

        client.wait_for("the player", ended, float("inf"))
        if player.returncode:
            raise DemoError(f"the player ended with code {player.returncode}; see {log}")
        bar.update(task, completed=frames)


def _end_node(client: GraphClient) -> None:
    """Deactivate the node once no frame is under way."""
    client.wait_for(
        "the node at rest",
        lambda: client.facts.get("in_progress") == "0" and int(client.facts["sent"]) > 0,
        REST_TIMEOUT_S,
    )
    client.transition("deactivate", Transition.TRANSITION_DEACTIVATE)
    # When it is deactivated, the node publishes its last counts. The recorder needs a moment to record them.
    client.spin_for(1.0)
