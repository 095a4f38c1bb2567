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
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.bag_geometry import bag_geometry
from demo.drive_truth import DriveTruth, is_drive, read_truth
from demo.live_run import (
    IMAGE_TOPICS,
    NODE,
    OBSTACLES_TOPIC,
    DemoError,
    Played,
    node_parameters,
    play_and_record,
)
from demo.recording import (
    Recording,
    compare_with_engine,
    compare_with_replay,
    recorded_clouds,
    recorded_pixels,
)
from demo.rendered_drive import rendered_drive
from demo.report import write_report
from demo.report_player import Player, recorded_obstacles
from demo.summary import problems, summarise, tell
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.number_arguments import LARGEST_SEED, MOST_THREADS, real, whole
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.frame_source import open_frames
from ros_ood_perception.shown_text import error_line, printable

REPLAY_FOLDER = "replay"
DRIVE_BUNDLE, OTHER_BUNDLE = "models/sample_drive", "models/camvid_small"


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
    command += ["--outputs", ",".join((*IMAGE_TOPICS, "obstacles")), "--node-name", NODE, "--engine", options.engine]
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
        code = subprocess.run(ends_with_this_process(command), check=False, stdout=output).returncode
    if code:
        raise DemoError(f"the replay ended with code {code}; the message above says why")
    if not measured:
        return {}
    found: dict[str, Any] = json.loads((out / REPLAY_FOLDER / "metrics.json").read_text("utf-8"))["sets"]["replay"]
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
    rate, share = real(0.0, 1000.0, above=True), real(0.0, 1.0)
    parser.add_argument("--rate", type=rate, help="frames per second (default: 10, or as the bag was recorded)")
    parser.add_argument(
        "--paced",
        action="store_true",
        help="send a frame when the last one's result has come, however slow the machine: none is replaced unread "
        "(always so with a sample drive)",
    )
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=1, help="of the sample drive, when no frames are given (1)"
    )
    parser.add_argument("--topic", help="image topic of the bag, where it has several")
    parser.add_argument("--engine", default="auto", help="what runs the model (default: auto)")
    threads = whole(0, MOST_THREADS)
    parser.add_argument("--threads", type=threads, default=0, help="CPU threads of one inference (default: all)")
    parser.add_argument("--threshold", type=share, help="anomaly threshold, 0 to 1 (default: the bundle's)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    try:
        summary = run(options, console)
    except (PerceptionError, OSError) as error:
        console.print(f"demo: {error_line(error)}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("demo: interrupted; node, player and recorder have been ended", style="red")
        return 130
    tell(summary, options.out, console)
    return 1 if summary["problems"] else 0


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything, from the frames to the report; gives back what `summary.json` holds.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    stages = Stages()
    path = options.frames
    if path is None:
        path = rendered_drive(options.seed, lambda text: console.print(printable(text), markup=False, soft_wrap=True))
        stages.end("sample_drive")
    truth = read_truth(path) if is_drive(path) else None
    if truth is not None:
        path = truth.bag
        options.paced = True
    bundle_folder = options.bundle or default_bundle(truth is not None)
    read = {"the frames": path if truth is None else truth.folder, "--bundle": bundle_folder}
    check_apart("--out", options.out, read)
    source = open_frames(path, options.topic)
    bundle = read_bundle(bundle_folder)
    played = Played(path, source, bag_geometry(path, source), truth)
    if truth is not None and played.geometry is None:
        raise DemoError(f"{path}: the drive's bag lacks camera_info or /tf_static; render the drive again")
    output = _make_room(options.out)
    console.print(
        printable(f"{len(source)} frames from {path} ({source.kind}), bundle {bundle.description.name}"),
        markup=False,
        soft_wrap=True,
    )
    facts, exit_code = play_and_record(options, played, bundle, console)
    stages.end("live_node")
    recording = Recording.read(options.out, IMAGE_TOPICS)
    metrics: dict[str, Any] = {}
    if truth is not None:
        metrics = replay_drive(options, played, truth, bundle, console)
        replayed = options.out / REPLAY_FOLDER / BAG_FOLDER
        equality = compare_with_replay(recording, IMAGE_TOPICS, OBSTACLES_TOPIC, options.out, replayed)
    else:
        with progress_bar(console) as bar:
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
    with progress_bar(console) as bar:
        task = bar.add_task("writing the report", total=len(source))
        player = Player(recording, source, bundle, played.geometry, truth, obstacles)
        if player.findings is not None:
            summary["unknown_objects"] = player.findings.summary(player.seconds)
        pixels = recorded_pixels(options.out / BAG_FOLDER, IMAGE_TOPICS, recording.sent)
        data = player.data(pixels, lambda: bar.advance(task))
        write_report(options.out, summary, bundle, data)
    stages.end("report")
    summary["stages_s"] = stages.seconds
    output.write(SUMMARY, json_text(summary, indent=2))
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


PROGRAM = "the demo"
REPORT, SUMMARY = "report.html", "summary.json"
WRITTEN = (
    *(f"logs/{name}.log" for name in ("node", "recorder", "player", "replay")),
    *(f"{BAG_FOLDER}/{name}" for name in (f"{BAG_FOLDER}.mcap", "metadata.yaml")),
    "arrivals.jsonl",
    "sent.jsonl",
    REPORT,
    SUMMARY,
    f"{REPLAY_FOLDER}/",
)
"""All that a run writes into its folder."""


def _make_room(out: Path) -> OutputFolder:
    """An earlier run of the demo gives way; a folder with anything else in it is left alone.

    Raises:
        OutputFolderError: the folder holds something that no demo wrote.
        OSError: with the path.
    """
    output = OutputFolder.claim(out, PROGRAM)
    output.add(*WRITTEN)
    return output


if __name__ == "__main__":
    sys.exit(main())
