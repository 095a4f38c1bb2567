"""Play frames through the live node, record what it publishes, check it, and write a report.

    ./demo.sh FRAMES_OR_BAG [--out DIR]

Player, node and recorder are processes of their own and speak over Fast DDS with the large-image profile. Afterwards
every recorded mask is compared with what the engine gives for the same frame in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ros_ood_perception.bundle import Bundle, BundleError, read_bundle
from ros_ood_perception.demo.recording import Recording, RecordingError, compare_with_engine, end_to_end_ms
from ros_ood_perception.demo.report import write_report
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.package_files import package_file
from ros_ood_perception.recordings.frame_source import FrameSource, FrameSourceError, open_frames

INPUT_TOPIC = "/camera/image_raw"
NODE = "/perception_node"
OUTPUT_TOPICS = {
    "semantic_mask": f"{NODE}/output/semantic/mask",
    "anomaly_mask": f"{NODE}/output/anomaly/mask",
    "anomaly_score": f"{NODE}/output/anomaly/score",
}
RECORDED_TYPES = {
    **dict.fromkeys(OUTPUT_TOPICS.values(), "sensor_msgs/msg/Image"),
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 15.0


class DemoError(RuntimeError):
    """The demo cannot go on. The message says at which step, and where to look."""


def environment() -> dict[str, str]:
    """What every process of the graph is started with; what the user has set stays."""
    profile = str(package_file("config/fastdds_large_images.xml"))
    wanted = {
        # Fast DDS 3 reads the first, 2 (Humble, Jazzy) the second; the same goes for the next two.
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **({"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else {}),
        # A graph of its own beside whatever else runs on this machine.
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        # Large messages are otherwise mapped and unmapped each time: 60 % of a subscriber's CPU.
        "MALLOC_MMAP_THRESHOLD_": "268435456",
        "MALLOC_TRIM_THRESHOLD_": "536870912",
    }
    return {**wanted, **os.environ}


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
    """A Python module as a process whose output goes to a file; ended at the latest when the block is left."""
    with log.open("wb") as output:
        child = subprocess.Popen([sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.STDOUT, env=env)
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


def play_and_record(
    options: argparse.Namespace, source: FrameSource, bundle: Bundle, console: Console
) -> tuple[dict[str, str], int]:
    """The live part: start everything, play every frame, end everything.

    Returns:
        The node's last diagnostics, and its exit code.
    """
    env = environment()
    os.environ.update(env)  # before rclpy starts in this process
    out: Path = options.out
    logs = {name: out / "logs" / f"{name}.log" for name in ("node", "recorder", "player")}
    logs["node"].parent.mkdir(parents=True)
    node_arguments = ["ros_ood_perception.node.perception_node", "--ros-args", "-r", f"~/input/image:={INPUT_TOPIC}"]
    parameters = {"bundle": bundle.folder.resolve(), "engine": options.engine, "num_threads": options.threads}
    if options.threshold is not None:
        parameters["anomaly_threshold"] = float(options.threshold)
    for name, value in parameters.items():
        node_arguments += ["-p", f"{name}:={value}"]
    recorder_arguments = ["ros_ood_perception.demo.output_recorder", str(out / "bag")]
    recorder_arguments += ["--arrivals", str(out / "arrivals.jsonl")]
    recorder_arguments += [f"{topic}:{kind}" for topic, kind in RECORDED_TYPES.items()]
    player_arguments = ["ros_ood_perception.demo.frame_player", str(options.frames), "--publish-to", INPUT_TOPIC]
    player_arguments += ["--record", str(out / "sent.jsonl")]
    if options.topic:
        player_arguments += ["--topic", options.topic]
    if options.rate:
        player_arguments += ["--rate", str(options.rate)]

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
            subscribed = [f"subscribers of {topic}" for topic in OUTPUT_TOPICS.values()]
            client.wait_for(
                "the recorder on every output",
                lambda: all(int(client.facts.get(key, "0")) for key in subscribed),
                START_TIMEOUT_S,
                alive,
            )
            with process(player_arguments, logs["player"], env) as player, _bar(console) as bar:
                task = bar.add_task("playing through the live node", total=len(source))

                def played() -> bool:
                    bar.update(task, completed=int(client.facts.get("sent", "0")))
                    return player.poll() is not None

                client.wait_for("the player", played, float("inf"), alive)
                if player.returncode:
                    raise DemoError(f"the player ended with code {player.returncode}; see {logs['player']}")
                bar.update(task, completed=len(source))
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


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


ACCOUNTING_FIELDS = (
    "sent",
    "lost_in_transport",
    "replaced_unread",
    "too_old",
    "malformed",
    "failed",
    "published",
    "in_progress",
)


def summarise(
    options: argparse.Namespace,
    source: FrameSource,
    bundle: Bundle,
    facts: dict[str, str],
    node_exit_code: int,
    recording: Recording,
    equality: dict[str, int],
) -> dict[str, Any]:
    """What `summary.json` holds."""
    accounting = {name: int(facts[name]) for name in ACCOUNTING_FIELDS}
    description = bundle.description
    threshold = float(facts["anomaly_threshold"])
    return {
        "input": {
            "path": str(options.frames),
            "kind": source.kind,
            "frames": len(recording.sent),
            "unreadable": source.unreadable,
            "rate_hz": options.rate or (10.0 if source.kind != "bag" else None),
        },
        "bundle": {
            "name": description.name,
            "path": str(bundle.folder),
            "model_sha256": description.model_sha256,
            "weights_licence": description.weights_licence,
        },
        "engine": facts["engine"],
        "anomaly_threshold": threshold,
        "accounting": accounting,
        "unaccounted": len(recording.sent) - accounting["sent"],
        "recorded": {name: len(recording.messages[name]) for name in OUTPUT_TOPICS},
        "equal_to_engine": equality,
        "latency_ms": {
            "end_to_end": end_to_end_ms(recording, "semantic_mask"),
            "node": {key: float(value) for key, value in sorted(facts.items()) if "_ms_p" in key},
        },
        "node_exit_code": node_exit_code,
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "ros_distro": os.environ.get("ROS_DISTRO", "from PyPI"),
        },
    }


def problems(summary: dict[str, Any]) -> list[str]:
    """What a user must know before trusting the run; empty when all is well."""
    accounting, equality = summary["accounting"], summary["equal_to_engine"]
    found = []
    if not accounting["published"]:
        found.append("no frame was published")
    for name in ("lost_in_transport", "too_old", "malformed", "failed", "in_progress"):
        if accounting[name]:
            found.append(f"{accounting[name]} frames: {name.replace('_', ' ')}")
    if summary["unaccounted"]:
        found.append(f"{summary['unaccounted']} frames sent are not in the node's accounting")
    if sum(accounting[name] for name in ACCOUNTING_FIELDS[1:]) != accounting["sent"]:
        found.append("the accounting does not add up")
    for name, count in summary["recorded"].items():
        if count != accounting["published"]:
            found.append(f"{count} messages recorded of {name}, {accounting['published']} frames published")
    for name in OUTPUT_TOPICS:
        if equality[name] != equality["compared"]:
            different = equality["compared"] - equality[name]
            found.append(f"{different} of {equality['compared']} recorded {name}s differ from the engine's")
    if summary["node_exit_code"]:
        found.append(f"the node ended with code {summary['node_exit_code']}")
    if summary["input"]["unreadable"]:
        found.append(f"{len(summary['input']['unreadable'])} files could not be decoded and were left out")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 1 when anything was lost or differs, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="demo.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path, nargs="?", help="folder of images, or rosbag2 bag (folder, .mcap, .db3)")
    parser.add_argument("--bundle", type=Path, help="model bundle (default: models/camvid_small)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for bag, summary and report")
    parser.add_argument("--rate", type=float, help="frames per second (default: 10, or as the bag was recorded)")
    parser.add_argument("--topic", help="image topic of the bag, where it has several")
    parser.add_argument("--engine", default="auto", help="what runs the model (default: auto)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of one inference (default: all)")
    parser.add_argument("--threshold", type=float, help="anomaly threshold, 0 to 1 (default: the bundle's)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    if options.frames is None:
        console.print(
            "Give the demo some road frames:\n\n"
            "    ./demo.sh FOLDER     a folder of images (.jpg, .png, ...), played in the order of their names\n"
            "    ./demo.sh BAG        a rosbag2 bag with a sensor_msgs/msg/Image topic\n\n"
            "The shipped model was trained on CamVid's street scenes, so forward-facing road frames suit it."
        )
        return 2
    if options.rate is not None and not options.rate > 0:
        parser.error(f"--rate is {options.rate:g}; it must be positive")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        parser.error(f"--threshold is {options.threshold:g}; it must be from 0 to 1")
    try:
        source = open_frames(options.frames, options.topic)
        bundle = read_bundle(options.bundle or package_file("models/camvid_small"))
        _make_room(options.out)
        console.print(f"{len(source)} frames from {options.frames} ({source.kind}), bundle {bundle.description.name}")
        facts, exit_code = play_and_record(options, source, bundle, console)
        recording = Recording.read(options.out, OUTPUT_TOPICS)
        with _bar(console) as bar:
            task = bar.add_task("comparing with the engine", total=len(recording.messages["semantic_mask"]))
            threshold = float(facts["anomaly_threshold"])
            equality = compare_with_engine(
                recording, source, bundle, options.engine, options.threads, threshold, lambda: bar.advance(task)
            )
        summary = summarise(options, source, bundle, facts, exit_code, recording, equality)
        found = problems(summary)
        summary["problems"] = found
        (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        write_report(options.out, OUTPUT_TOPICS, summary, recording, source, bundle)
    except (FrameSourceError, FileNotFoundError, BundleError, EngineError, DemoError, RecordingError) as error:
        console.print(f"demo: {error}", style="red")
        return 2
    except KeyboardInterrupt:
        console.print("demo: interrupted; node, player and recorder have been ended", style="red")
        return 130
    accounting = summary["accounting"]
    console.print("  ".join(f"{name} {accounting[name]}" for name in ACCOUNTING_FIELDS))
    console.print(f"semantic masks equal to the engine's: {equality['semantic_mask']} of {equality['compared']}")
    console.print(f"report: {options.out / 'report.html'}")
    for problem in found:
        console.print(f"problem: {problem}", style="red")
    return 1 if found else 0


MARKER = ".ros_ood_perception_demo"


def _make_room(out: Path) -> None:
    """An earlier run of the demo gives way; a folder with anything else in it is left alone.

    Raises:
        DemoError: the folder holds something that no demo wrote.
    """
    if out.is_dir() and any(out.iterdir()):
        if not (out / MARKER).is_file():
            raise DemoError(f"{out} is not empty and was not written by the demo; give another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


if __name__ == "__main__":
    sys.exit(main())
