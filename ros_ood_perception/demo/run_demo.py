"""Play frames through the live node, record what it publishes, check it, and write a report.

    ./demo.sh [--seed N]                 a rendered drive with unknown objects on the road, measured against its truth
    ./demo.sh FRAMES_OR_BAG [--out DIR]  frames of your own

Player, node and recorder are processes of their own and speak over Fast DDS with the large-image profile. Afterwards
every recorded mask is compared with what the engine gives for the same frame outside ROS; those of a sample drive, and
its obstacles, with a replay of the same bag, which also measures the scores against the drive's labels.
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
from dataclasses import dataclass
from importlib.util import find_spec
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
from ros_ood_perception.demo.bag_geometry import BagGeometry, bag_geometry
from ros_ood_perception.demo.drive_truth import DriveTruth, DriveTruthError, is_drive, read_truth
from ros_ood_perception.demo.recording import (
    BAG_FOLDER,
    Recording,
    RecordingError,
    compare_with_engine,
    compare_with_replay,
    end_to_end_ms,
    recorded_clouds,
    recorded_pixels,
)
from ros_ood_perception.demo.rendered_drive import DriveRenderingError, rendered_drive
from ros_ood_perception.demo.report import write_report
from ros_ood_perception.demo.report_player import Player, recorded_obstacles
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.package_files import package_file
from ros_ood_perception.recordings.frame_source import FrameSource, FrameSourceError, open_frames

INPUT_TOPIC = "/camera/image_raw"
INFO_TOPIC = "/camera/camera_info"
NODE = "/perception_node"
OUTPUT_TOPICS = {
    "semantic_mask": f"{NODE}/output/semantic/mask",
    "anomaly_mask": f"{NODE}/output/anomaly/mask",
    "anomaly_score": f"{NODE}/output/anomaly/score",
}
OBSTACLES_TOPIC = f"{NODE}/output/anomaly/obstacles"
RECORDED_TYPES = {
    **dict.fromkeys(OUTPUT_TOPICS.values(), "sensor_msgs/msg/Image"),
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
REPLAY_FOLDER = "replay"
DRIVE_BUNDLE, OTHER_BUNDLE = "models/sample_drive", "models/camvid_small"
DRIVABLE_CLASSES = ("road",)
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 15.0


class DemoError(RuntimeError):
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


def node_parameters(options: argparse.Namespace, played: Played, bundle: Bundle) -> dict[str, Any]:
    """What the live node runs with, and a replay of the same frames; engine and threads apart."""
    parameters: dict[str, Any] = dict(played.geometry.parameters) if played.geometry else {}
    if options.threshold is not None:
        parameters["anomaly_threshold"] = float(options.threshold)
    # As on a vehicle: what is not on or beside the road is no obstacle. Other recordings may show no road at all.
    drivable = [known.name for known in bundle.description.classes if known.name in DRIVABLE_CLASSES]
    if played.truth is not None and drivable:
        parameters["region.drivable_classes"] = drivable
    return parameters


def play_and_record(
    options: argparse.Namespace, played: Played, bundle: Bundle, console: Console
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
    node_arguments += ["-r", f"~/input/camera_info:={INFO_TOPIC}"]
    parameters = {"bundle": bundle.folder.resolve(), "engine": options.engine, "num_threads": options.threads}
    for name, value in {**parameters, **node_parameters(options, played, bundle)}.items():
        node_arguments += ["-p", f"{name}:={value}"]
    recorder_arguments = ["ros_ood_perception.demo.output_recorder", str(out / BAG_FOLDER)]
    recorder_arguments += ["--arrivals", str(out / "arrivals.jsonl")]
    recorded = RECORDED_TYPES | ({OBSTACLES_TOPIC: "sensor_msgs/msg/PointCloud2"} if played.geometry else {})
    recorder_arguments += [f"{topic}:{kind}" for topic, kind in recorded.items()]
    player_arguments = ["ros_ood_perception.demo.frame_player", str(played.path), "--publish-to", INPUT_TOPIC]
    player_arguments += ["--record", str(out / "sent.jsonl")]
    if played.geometry:
        player_arguments += ["--topic", played.geometry.image_topic, "--info-to", INFO_TOPIC]
    elif options.topic:
        player_arguments += ["--topic", options.topic]
    if options.rate:
        player_arguments += ["--rate", str(options.rate)]
    if options.paced:
        player_arguments += ["--paced-by", OUTPUT_TOPICS["semantic_mask"]]

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
            subscribed = [f"subscribers of {topic}" for topic in recorded if topic.startswith(NODE)]
            client.wait_for(
                "the recorder on every output",
                lambda: all(int(client.facts.get(key, "0")) for key in subscribed),
                START_TIMEOUT_S,
                alive,
            )
            with process(player_arguments, logs["player"], env) as player, _bar(console) as bar:
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


def replay_drive(
    options: argparse.Namespace, played: Played, truth: DriveTruth, bundle: Bundle, console: Console
) -> dict[str, Any]:
    """Replay the drive's bag without ROS and measure the scores against its labels, in a process of its own.

    Returns:
        The figures of `training.evaluate_replay`; empty where that is not installed.
    """
    out: Path = options.out
    # A checkout has the metrics; what is installed on a vehicle does not.
    measured = find_spec("training") is not None and find_spec("training.evaluate_replay") is not None
    command = [sys.executable, "-m", "training.evaluate_replay" if measured else "ros_ood_perception.replay"]
    command += [str(played.path), "--bundle", str(bundle.folder), "--out", str(out / REPLAY_FOLDER)]
    command += ["--outputs", ",".join((*OUTPUT_TOPICS, "obstacles")), "--node-name", NODE, "--engine", options.engine]
    command += ["--threads", str(options.threads)]
    if played.geometry:
        command += ["--camera", played.geometry.image_topic]
    for name, value in node_parameters(options, played, bundle).items():
        command += ["--set", f"{name}={value}"]
    if measured:
        command += ["--labels", str(truth.folder)]
    log = out / "logs" / "replay.log"
    console.print("replaying the same bag without ROS, and measuring it against the drive's labels")
    with log.open("wb") as output:
        # Its progress bar goes to the terminal, its tables into the log.
        code = subprocess.run(command, check=False, stdout=output).returncode
    if code:
        raise DemoError(f"the replay ended with code {code}; the message above says why")
    if not measured:
        return {}
    found: dict[str, Any] = json.loads((out / REPLAY_FOLDER / "metrics.json").read_text("utf-8"))["sets"]["replay"]
    return found


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
    played: Played,
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
    source, sent = played.source, recording.sent
    return {
        "input": {
            "path": str(played.path),
            "kind": source.kind,
            "frames": len(recording.sent),
            "unreadable": source.unreadable,
            "rate_hz": options.rate or (10.0 if source.kind != "bag" else None),
            "paced": options.paced,
            "played_s": (sent[-1].sent_at_ns - sent[0].sent_at_ns) / 1e9 if sent else 0.0,
        },
        "bundle": {
            "name": description.name,
            "path": str(bundle.folder),
            "model_sha256": description.model_sha256,
            "weights_licence": description.weights_licence,
        },
        "engine": facts["engine"],
        "anomaly_threshold": threshold,
        "parameters": node_parameters(options, played, bundle),
        "accounting": accounting,
        "unaccounted": len(recording.sent) - accounting["sent"],
        "recorded": {name: len(recording.messages[name]) for name in OUTPUT_TOPICS},
        "equal_to_replay" if played.truth else "equal_to_engine": equality,
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
    other = "replay" if "equal_to_replay" in summary else "engine"
    accounting, equality = summary["accounting"], summary[f"equal_to_{other}"]
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
    if equality["compared"] < accounting["published"]:
        missing = accounting["published"] - equality["compared"]
        found.append(f"{missing} frames published could not be compared with the {other}'s")
    for name in equality.keys() - {"compared"}:
        # What the node has not seen changes which obstacles persist: then they may differ.
        expected = name != "obstacles" or accounting["published"] == accounting["sent"]
        if expected and equality[name] != equality["compared"]:
            different = equality["compared"] - equality[name]
            # Some names are plural already.
            many = f"{name.rstrip('s')}s"
            found.append(f"{different} of {equality['compared']} recorded {many} differ from the {other}'s")
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
    parser.add_argument(
        "frames",
        type=Path,
        nargs="?",
        help="folder of images, video, rosbag2 bag (folder, .mcap, .db3), or folder of a sample drive; default: a "
        "sample drive, rendered into out/sample_drive",
    )
    parser.add_argument(
        "--bundle", type=Path, help=f"model bundle (default: {OTHER_BUNDLE}; for a sample drive {DRIVE_BUNDLE})"
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for bag, summary and report")
    parser.add_argument("--rate", type=float, help="frames per second (default: 10, or as the bag was recorded)")
    parser.add_argument(
        "--paced",
        action="store_true",
        help="send a frame when the last one's result has come, however slow the machine: none is replaced unread "
        "(always so with a sample drive)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample drive, when no frames are given (1)")
    parser.add_argument("--topic", help="image topic of the bag, where it has several")
    parser.add_argument("--engine", default="auto", help="what runs the model (default: auto)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of one inference (default: all)")
    parser.add_argument("--threshold", type=float, help="anomaly threshold, 0 to 1 (default: the bundle's)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    if options.rate is not None and not options.rate > 0:
        parser.error(f"--rate is {options.rate:g}; it must be positive")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        parser.error(f"--threshold is {options.threshold:g}; it must be from 0 to 1")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; it must be 0 or more")
    try:
        summary = run(options, console)
    except BAD_INPUT_ERRORS as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("demo: interrupted; node, player and recorder have been ended", style="red")
        return 130
    tell(summary, options.out, console)
    return 1 if summary["problems"] else 0


BAD_INPUT_ERRORS = (
    BundleError,
    DemoError,
    DriveRenderingError,
    DriveTruthError,
    EngineError,
    FileNotFoundError,
    FrameSourceError,
    RecordingError,
)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything, from the frames to the report; gives back what `summary.json` holds.

    Raises:
        One of `BAD_INPUT_ERRORS`.
    """
    stages = Stages()
    path = options.frames
    if path is None:
        path = rendered_drive(options.seed, lambda text: console.print(text, markup=False))
        stages.end("sample_drive")
    truth = read_truth(path) if is_drive(path) else None
    if truth is not None:
        path = truth.bag
        options.paced = True
    source = open_frames(path, options.topic)
    bundle = read_bundle(options.bundle or default_bundle(truth is not None))
    played = Played(path, source, bag_geometry(path, source), truth)
    if truth is not None and played.geometry is None:
        raise DemoError(f"{path}: the drive's bag lacks camera_info or /tf_static; render the drive again")
    _make_room(options.out)
    console.print(f"{len(source)} frames from {path} ({source.kind}), bundle {bundle.description.name}", markup=False)
    facts, exit_code = play_and_record(options, played, bundle, console)
    stages.end("live_node")
    recording = Recording.read(options.out, OUTPUT_TOPICS)
    metrics: dict[str, Any] = {}
    if truth is not None:
        metrics = replay_drive(options, played, truth, bundle, console)
        replayed = options.out / REPLAY_FOLDER / BAG_FOLDER
        equality = compare_with_replay(recording, OUTPUT_TOPICS, OBSTACLES_TOPIC, options.out, replayed)
    else:
        with _bar(console) as bar:
            task = bar.add_task("comparing with the engine", total=len(recording.messages["semantic_mask"]))
            threshold = float(facts["anomaly_threshold"])
            equality = compare_with_engine(
                recording, source, bundle, options.engine, options.threads, threshold, lambda: bar.advance(task)
            )
    stages.end("comparison")
    summary = summarise(options, played, bundle, facts, exit_code, recording, equality)
    summary["problems"] = problems(summary)
    if metrics:
        summary["metrics"] = metrics
    obstacles = None
    if played.geometry is not None:
        obstacles = recorded_obstacles(recorded_clouds(options.out / BAG_FOLDER, OBSTACLES_TOPIC, recording.sent))
    with _bar(console) as bar:
        task = bar.add_task("writing the report", total=len(source))
        player = Player(recording, source, bundle, played.geometry, truth, obstacles)
        if player.findings is not None:
            summary["unknown_objects"] = player.findings.summary(player.seconds)
        pixels = recorded_pixels(options.out / BAG_FOLDER, OUTPUT_TOPICS, recording.sent)
        data = player.data(pixels, lambda: bar.advance(task))
        write_report(options.out, summary, bundle, data)
    stages.end("report")
    summary["stages_s"] = stages.seconds
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


class Stages:
    """Seconds of each stage, in the order in which they end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, name: str) -> None:
        """The stage that ends now; the next begins."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._began, 1)
        self._began = now


def default_bundle(drive: bool) -> Path:
    """The bundle that ships for what is played.

    Raises:
        FileNotFoundError: none does.
    """
    if drive:
        try:
            return package_file(DRIVE_BUNDLE)
        except FileNotFoundError:
            pass
    return package_file(OTHER_BUNDLE)


def tell(summary: dict[str, Any], out: Path, console: Console) -> None:
    """Say what came of it."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, markup=False, soft_wrap=True, style=style)

    accounting = summary["accounting"]
    say("  ".join(f"{name} {accounting[name]}" for name in ACCOUNTING_FIELDS))
    other = "replay" if "equal_to_replay" in summary else "engine"
    equality = summary[f"equal_to_{other}"]
    same = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in equality.items() if name != "compared")
    say(f"equal to the {other}'s, of {equality['compared']} frames: {same}")
    if "metrics" in summary:
        exact = summary["metrics"]["exact"]
        figures = {"AP": exact["AP"], "FPR95": exact["FPR95"], "mIoU": summary["metrics"]["semantic"]["mIoU"]}
        shown = (f"{name} {'undefined' if v is None else f'{100 * v:.1f} %'}" for name, v in figures.items())
        say(f"pixels against the truth: {', '.join(shown)}")
    if "unknown_objects" in summary:
        found = summary["unknown_objects"]
        say(f"unknown objects found: {found['found']} of {found['objects']}")
        for row in found["each"]:
            first = "missed" if row["first_found_m"] is None else f"first found {row['first_found_m']:.1f} m ahead"
            say(f"  {row['kind']} {row['id']}: {first}, in view from {row['first_in_view_m']:.1f} m on")
        say(f"false obstacles: {found['false_obstacles']}, {found['false_obstacles_per_minute']:.1f} a minute")
    say(f"seconds: {', '.join(f'{name} {seconds}' for name, seconds in summary['stages_s'].items())}")
    say(f"report: {out / 'report.html'}")
    for problem in summary["problems"]:
        say(f"problem: {problem}", style="red")


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
