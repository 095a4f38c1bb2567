"""Play frames through the live node, record what it publishes, check it, and write a report.

    ./demo.sh [--seed N]                 a rendered drive with unknown objects on the road, measured against its truth
    ./demo.sh FRAMES_OR_BAG [--out DIR]  your own frames

Player, node and recorder are processes of their own and exchange messages over Fast DDS with the large-image profile.
Afterwards every recorded mask is compared with what the engine gives for the same frame outside ROS. On a sample drive,
masks and obstacles are compared with a replay of the same bag, which also measures the scores against the labels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.comparison import compare_with_engine, compare_with_replay
from demo.demo_input import DemoError, DemoInput, open_demo_input
from demo.every_camera import CAMERAS_FOLDER, replay_every_camera
from demo.live.live_run import play_and_record
from demo.live.node_parameters import node_parameters
from demo.live.topics import IMAGE_TOPICS, NODE, OBSTACLES_TOPIC
from demo.played_frames import RATE_HZ
from demo.recorded_run import RecordedRun, recorded_clouds, recorded_pixels
from demo.rendered_drive import rendered_drive
from demo.report.page import write_report
from demo.report.player import Player, recorded_obstacles
from demo.summary import print_summary, problems, summarise
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.number_arguments import LARGEST_SEED, MOST_THREADS, real, whole
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.shown_text import error_line, printable
from sample_drive.drive_truth import DriveTruth, is_drive, read_truth
from training.metrics.obstacles.drive_objects import DriveObjects
from training.metrics.obstacles.judging import Rule
from training.metrics.obstacles.measure import MeasuredDrive, measure_drive

PROGRAM = "the demo"
REPLAY_FOLDER = "replay"
REPORT, SUMMARY = "report.html", "summary.json"
DRIVE_BUNDLE, OTHER_BUNDLE = "models/sample_drive", "models/camvid_small"
WRITTEN = (
    *(f"logs/{name}.log" for name in ("node", "recorder", "player", "replay")),
    *(f"{BAG_FOLDER}/{name}" for name in (f"{BAG_FOLDER}.mcap", "metadata.yaml")),
    "arrivals.jsonl",
    "sent.jsonl",
    REPORT,
    SUMMARY,
    f"{REPLAY_FOLDER}/",
    f"{CAMERAS_FOLDER}/",
)
"""Everything that a run writes into its folder."""


def make_parser() -> argparse.ArgumentParser:
    """The options of the demo."""
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
    rate, share = real(0.0, 1000.0, above=True), real(0.0, 1.0)
    parser.add_argument(
        "--rate", type=rate, help=f"frames per second (default: {RATE_HZ:g}, or as the bag was recorded)"
    )
    parser.add_argument(
        "--paced",
        action="store_true",
        help="send each frame after the result of the one before, however slow the machine: none is replaced unread "
        "(always so with a sample drive)",
    )
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=1, help="of the sample drive, when no frames are given (1)"
    )
    parser.add_argument("--topic", help="image topic of the bag to play live (default: its first camera)")
    parser.add_argument("--engine", default="auto", help="engine for the model (default: auto)")
    threads = whole(0, MOST_THREADS)
    parser.add_argument("--threads", type=threads, default=0, help="CPU threads of one inference (default: all)")
    parser.add_argument("--threshold", type=share, help="anomaly threshold, 0 to 1 (default: the bundle's)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 1 when anything was lost or differs, 2 for bad input."""
    options = make_parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    try:
        summary = run(options, console)
    except (PerceptionError, OSError) as error:
        console.print(f"demo: {error_line(error)}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("demo: interrupted; node, player and recorder have been ended", style="red")
        return 130
    print_summary(summary, options.out, console)
    return 1 if summary["problems"] else 0


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything, from the frames to the report.

    Returns:
        What `summary.json` holds.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    stages = Stages()
    path, truth = _found_frames(options, console, stages)
    bundle_folder = options.bundle or default_bundle(truth is not None)
    check_apart("--out", options.out, {"the frames": truth.folder if truth else path, "--bundle": bundle_folder})
    bundle = read_bundle(bundle_folder)
    played = open_demo_input(path, options.topic, truth)
    output = _make_room(options.out)
    console.print(
        printable(f"{len(played.frames)} frames from {path} ({played.frames.kind}), bundle {bundle.description.name}"),
        markup=False,
        soft_wrap=True,
    )
    facts, exit_code = play_and_record(options, played, bundle, console)
    stages.end("live_node")
    recorded = RecordedRun.read(options.out, IMAGE_TOPICS)
    metrics: dict[str, Any] = {}
    measured = None
    if truth is not None:
        metrics = replay_drive(options, played, truth, bundle, console)
        replayed = options.out / REPLAY_FOLDER / BAG_FOLDER
        # A live node publishes no boxes where vision_msgs is missing. That its obstacles are the same is checked below.
        measured = measure_drive(Bag(replayed), {f"{NODE}/": ""}, DriveObjects(truth.folder), Rule())
        equality = compare_with_replay(recorded, IMAGE_TOPICS, OBSTACLES_TOPIC, options.out, replayed)
    else:
        equality = _compare_with_engine(options, played, bundle, recorded, float(facts["anomaly_threshold"]), console)
    stages.end("comparison")
    if played.frames.other_cameras:
        replay_every_camera(options, played, bundle, console)
        stages.end("all_cameras")
    summary = summarise(options, played, bundle, facts, exit_code, recorded, equality)
    summary["problems"] = problems(summary)
    if metrics:
        summary["metrics"] = metrics
    if measured is not None:
        summary["unknown_objects"] = measured.findings.summary(measured.seconds)
        summary["problems"] += measured.damage
    _report(options.out, summary, played, bundle, recorded, measured, console)
    stages.end("report")
    summary["stages_s"] = stages.seconds
    output.write(SUMMARY, json_text(summary, indent=2))
    return summary


def _found_frames(options: argparse.Namespace, console: Console, stages: Stages) -> tuple[Path, DriveTruth | None]:
    """The frames to play, and the truth if they are a sample drive; renders a drive where no frames are given."""
    path = options.frames
    if path is None:
        path = rendered_drive(options.seed, lambda text: console.print(printable(text), markup=False, soft_wrap=True))
        stages.end("sample_drive")
    if not is_drive(path):
        return path, None
    truth = read_truth(path)
    options.paced = True
    return truth.bag, truth


def replay_drive(
    options: argparse.Namespace, played: DemoInput, truth: DriveTruth, bundle: Bundle, console: Console
) -> dict[str, Any]:
    """Replay the drive's bag without ROS and measure the scores against its labels, in a process of its own.

    Returns:
        The figures of `training.evaluate_replay`.
    """
    out: Path = options.out
    command = [sys.executable, "-m", "training.evaluate_replay", str(played.path), "--labels", str(truth.folder)]
    command += ["--bundle", str(bundle.folder), "--out", str(out / REPLAY_FOLDER), "--node-name", NODE]
    command += ["--outputs", ",".join((*IMAGE_TOPICS, "obstacles", "obstacle_detections"))]
    command += ["--engine", options.engine, "--threads", str(options.threads)]
    if played.geometry:
        command += ["--camera", played.geometry.image_topic]
    for name, value in node_parameters(options.threshold, played, bundle.description).items():
        command += ["--set", f"{name}={value}"]
    log = out / "logs" / "replay.log"
    console.print("replaying the same bag without ROS, and measuring it against the drive's labels")
    with log.open("wb") as output:
        # The progress bar on standard error stays visible; the tables on standard output go into the log.
        code = subprocess.run(ends_with_this_process(command), check=False, stdout=output).returncode
    if code:
        raise DemoError(f"the replay ended with code {code}; the message above says why")
    found: dict[str, Any] = json.loads((out / REPLAY_FOLDER / "metrics.json").read_text("utf-8"))["sets"]["replay"]
    return found


def _compare_with_engine(
    options: argparse.Namespace,
    played: DemoInput,
    bundle: Bundle,
    recorded: RecordedRun,
    threshold: float,
    console: Console,
) -> dict[str, int]:
    with progress_bar(console) as bar:
        task = bar.add_task("comparing with the engine", total=len(recorded.messages["semantic_mask"]))
        return compare_with_engine(
            recorded, played.frames, bundle, options.engine, options.threads, threshold, lambda: bar.advance(task)
        )


def _report(
    out: Path,
    summary: dict[str, Any],
    played: DemoInput,
    bundle: Bundle,
    recorded: RecordedRun,
    measured: MeasuredDrive | None,
    console: Console,
) -> None:
    """Write `report.html`."""
    obstacles = None
    if played.geometry is not None:
        obstacles = recorded_obstacles(recorded_clouds(out / BAG_FOLDER, OBSTACLES_TOPIC, recorded.sent))
    with progress_bar(console) as bar:
        task = bar.add_task("writing the report", total=len(played.frames))
        player = Player(recorded, played, bundle.description, obstacles, measured)
        pixels = recorded_pixels(out / BAG_FOLDER, IMAGE_TOPICS, recorded.sent)
        write_report(out, summary, bundle.description, player.data(pixels, lambda: bar.advance(task)))


class Stages:
    """Seconds of each stage, in the order in which they end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, name: str) -> None:
        """End a stage of this name, and begin the next."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._began, 1)
        self._began = now


def default_bundle(drive: bool) -> Path:
    """The shipped bundle for a sample drive, or for other frames.

    Raises:
        FileNotFoundError: it is not there.
    """
    if drive:
        try:
            return package_file(DRIVE_BUNDLE)
        except FileNotFoundError:
            pass
    return package_file(OTHER_BUNDLE)


def _make_room(out: Path) -> OutputFolder:
    """The folder of the run. An earlier run of the demo in it is replaced; a folder with anything else is refused.

    Raises:
        OutputFolderError: the folder holds files that no demo wrote.
        OSError: with the path.
    """
    output = OutputFolder.claim(out, PROGRAM)
    output.add(*WRITTEN)
    return output


if __name__ == "__main__":
    sys.exit(main())
