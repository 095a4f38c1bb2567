"""Replay a recording: every frame through the node's own perception, in order, without middleware.

    ros2 run ros_ood_perception replay BAG_OR_FOLDER_OR_VIDEO --bundle models/camvid_small --out out/replay
    python -m ros_ood_perception.replay BAG --start 12.5 --stop 40 --every 2 --jobs 2
    python -m ros_ood_perception.replay BAG --bundle NEW --compare out/before/bag --min-class-agreement 0.98

Bags are rosbag2 (MCAP, SQLite3; a folder or a file) or ROS 1. OUT/bag is an MCAP bag with the results at their frames'
places in time, OUT/summary.json says what was done, with a SHA-256 for each topic: the same recording, bundle, engine
and parameters give the same on every run, with any --jobs.

Exit code: 0 all well; 1 something could not be read or computed, or a limit of --compare was not met; 2 bad input;
130 interrupted (--resume goes on).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.inference.engine import ENGINES
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.parameters.parameter_file import of_recording, parameter_values
from ros_ood_perception.parameters.settings import (
    FixedSettings,
    LiveSettings,
    fixed_settings,
    live_settings,
)
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.replay.comparison import Limits, check_other, compare, print_comparison
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import Input, open_input
from ros_ood_perception.replay.run import Replay, ReplayPlan, ResultObserver, is_own_topic
from ros_ood_perception.replay.state import (
    PROGRAM,
    ReplayError,
    ReplayStoppedError,
    finished_summary,
    make_room,
)
from ros_ood_perception.shown_text import error_line, printable

if TYPE_CHECKING:
    from ros_ood_perception.replay.rerun_viewer import RerunViewer

DEFAULT_OUTPUTS = (
    "semantic_mask",
    "anomaly_mask",
    "anomaly_score",
    "label_info",
    "obstacles",
    "obstacle_markers",
    "obstacle_detections",
)
INTERRUPTED = 130
LONGEST_S = 1e9
RATES_HZ = (0.001, 1000.0)
MOST_FRAMES = 10**9
MOST_JOBS = 64
LOG_EVERY_S = 30.0

console = Console(stderr=True, highlight=False)


def say(message: str, style: str | None = None) -> None:
    """A line to standard error: square brackets in a name are no markup, and a stranger's characters do nothing."""
    console.print(printable(message), markup=False, soft_wrap=True, style=style)


def make_parser() -> argparse.ArgumentParser:
    """The options of a replay."""
    parser = argparse.ArgumentParser(
        prog="replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="bag (folder, .mcap, .db3, ROS 1 .bag), folder of images, or video")
    add = parser.add_argument_group("what is replayed").add_argument
    add("--camera", action="append", default=[], metavar="[NAME=]TOPIC", help="image topic; repeat (default: all)")
    seconds, count = real(0.0, LONGEST_S), whole(1, MOST_FRAMES)
    add("--start", type=seconds, metavar="S", help="seconds after the recording's first frame")
    add("--stop", type=seconds, metavar="S", help="likewise; frames before that time are replayed")
    add("--every", type=count, default=1, metavar="N", help="of each camera, every N-th frame (default: 1)")
    add(
        "--rate",
        type=real(*RATES_HZ),
        default=10.0,
        metavar="HZ",
        help="frames a second of a folder of images (default: 10)",
    )
    add = parser.add_argument_group("with what").add_argument
    add("--bundle", type=Path, metavar="DIR", help="model bundle (default: models/camvid_small)")
    add("--params", type=Path, metavar="FILE", help="parameter file of the node (default: the node's defaults)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter of the node; repeat")
    add("--engine", choices=ENGINES, help="what runs the model (default: the parameter's, auto)")
    add(
        "--jobs",
        type=whole(1, MOST_JOBS),
        default=1,
        metavar="N",
        help="processes that infer; the results do not depend on it (1)",
    )
    add(
        "--threads",
        type=whole(0, MOST_THREADS),
        default=0,
        metavar="N",
        help="CPU threads of each (default: the parameter's, all)",
    )
    add = parser.add_argument_group("what is written").add_argument
    add(
        "--out",
        type=Path,
        default=Path("out/replay"),
        metavar="DIR",
        help="folder for bag and summary; a finished replay in it is replaced (default: out/replay)",
    )
    add(
        "--outputs",
        default=",".join(DEFAULT_OUTPUTS),
        metavar="NAME,...",
        help=f"of {', '.join(OUTPUT_TOPICS)}; or: all (default: {','.join(DEFAULT_OUTPUTS)})",
    )
    add(
        "--node-name",
        default="/perception_node",
        metavar="NAME",
        help="what the output topics begin with (default: /perception_node)",
    )
    add(
        "--with-input",
        action="store_true",
        help="copy the recording's topics into the output as well, without /diagnostics and results under --node-name",
    )
    add(
        "--frames-per-file",
        type=count,
        default=600,
        metavar="N",
        help="the output begins a new file after so many; that much is lost at most (default: 600)",
    )
    add("--resume", action="store_true", help="go on with the interrupted replay in --out")
    add("--overwrite", action="store_true", help="drop an interrupted replay that is in --out")
    add("--rerun", metavar="FILE", help="write FILE.rrd for the Rerun viewer as well; 'spawn' opens the viewer")
    group = parser.add_argument_group("comparison", "The exit code is 1 where a limit is not met.")
    group.add_argument(
        "--compare", type=Path, metavar="OTHER", help="--out of another replay, a bag with results, or a summary.json"
    )
    Limits.add_options(group)
    return parser


@dataclass(frozen=True)
class Opened:
    """Everything that a replay needs, checked."""

    source: Input
    bundle: Bundle
    fixed: FixedSettings
    live: LiveSettings
    plan: ReplayPlan
    engine: str
    threads: int


def open_all(options: argparse.Namespace) -> Opened:
    """Open and check what the options name, before anything is computed.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    bundle_folder = options.bundle or package_file("models/camvid_small")
    inputs = {"the input": options.input, "--bundle": bundle_folder, "--params": options.params}
    inputs["--compare"] = options.compare
    check_apart("--out", options.out, inputs)
    if options.rerun and options.rerun != "spawn":
        check_apart("--rerun", Path(options.rerun), {**inputs, "--out": options.out})
    if options.compare is not None:
        # Now, not after an hour of replay.
        check_other(options.compare)
    outputs = tuple(OUTPUT_TOPICS) if options.outputs == "all" else tuple(options.outputs.split(","))
    unknown = [name for name in outputs if name not in OUTPUT_TOPICS]
    if unknown:
        raise ReplayError(f"--outputs holds {', '.join(unknown)}; there are {', '.join(OUTPUT_TOPICS)}")
    given = parameter_values(options.params, options.set, options.node_name)
    bundle = read_bundle(bundle_folder, given["bundle_public_key"])
    source = open_input(options.input, options.camera, options.rate)
    values = of_recording(given, [camera.name for camera in source.cameras])
    values["bundle"] = str(bundle.folder)
    check_apart("--out", options.out, {f"region.ego_mask {n}": Path(n) for n in values["region.ego_mask"] if n})
    fixed, live = fixed_settings(values), live_settings(values)
    source.limit_images(fixed.max_image_pixels)
    live.threshold(bundle.description)
    live.region_settings(bundle.description)
    first_ns = source.start_ns() if options.start is not None or options.stop is not None else 0
    start_ns = None if options.start is None else first_ns + round(options.start * 1e9)
    stop_ns = None if options.stop is None else first_ns + round(options.stop * 1e9)
    if start_ns is not None and stop_ns is not None and start_ns >= stop_ns:
        raise ReplayError(f"--start {options.start:g} is not before --stop {options.stop:g}")
    # Who signed the bundle changes nothing that is computed.
    del values["bundle"], values["bundle_public_key"]
    # The CPU engine's last bit can depend on them, and so a digest.
    threads = options.threads or fixed.num_threads or len(os.sched_getaffinity(0))
    identity = {
        "input": str(options.input.resolve()),
        "input bytes": _size(options.input),
        "bundle": bundle.description.model_sha256,
        "cameras": [(camera.name, camera.image) for camera in source.cameras],
        "outputs": outputs,
        "node name": options.node_name,
        "--start": start_ns,
        "--stop": stop_ns,
        "--every": options.every,
        "--rate": options.rate,
        "--with-input": options.with_input,
        "threads": threads,
        "parameters": values,
    }
    plan = ReplayPlan(
        outputs=outputs,
        node_name=options.node_name,
        start_ns=start_ns,
        stop_ns=stop_ns,
        every=options.every,
        copied=tuple(topic for topic in source.copied if not is_own_topic(topic, options.node_name))
        if options.with_input
        else (),
        frames_per_file=options.frames_per_file,
        # As it is once it has been written and read.
        identity=json.loads(json.dumps(identity)),
    )
    if options.with_input and not source.copied:
        raise ReplayError("--with-input: topics of a ROS 1 bag cannot be copied; convert it first (rosbags-convert)")
    return Opened(source, bundle, fixed, live, plan, options.engine or fixed.engine, threads)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)


def replay(options: argparse.Namespace, opened: Opened, observers: Sequence[ResultObserver]) -> dict[str, Any]:
    """Run it; gives back what `summary.json` holds. `complete` in it is false after an interruption.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    output = make_room(options.out, options.resume, options.overwrite)
    started = time.monotonic()
    pool = EnginePool(opened.bundle, opened.engine, options.jobs, opened.threads, opened.fixed.gpu)
    try:
        run = Replay(opened.source, output, opened.plan, opened.bundle, opened.fixed, opened.live, pool, observers)
        if run.went_back:
            say(f"the output was damaged: {run.went_back}", style="red")
        stopped = _stopped_by_signals()
        whole = opened.plan.start_ns is None and opened.plan.stop_ns is None
        total = opened.source.frame_count if whole else None
        with progress_bar(console) as progress:
            task = progress.add_task("replay", total=total)
            said = time.monotonic()

            def advance() -> None:
                nonlocal said
                progress.advance(task)
                # A log has no bar; it must show all the same that something happens.
                if not console.is_terminal and time.monotonic() - said >= LOG_EVERY_S:
                    said = time.monotonic()
                    say(f"{progress.tasks[0].completed:.0f} of {total or 'an unknown number of'} frames")

            complete = run.run(advance, stopped)
        summary = summarise(options, opened, run, pool, complete, time.monotonic() - started)
        run.complete(summary)
    except BrokenExecutor as error:
        raise ReplayStoppedError(
            f"a process of the replay died ({error}); --resume goes on, perhaps with fewer --jobs"
        ) from error
    except OSError as error:
        raise ReplayStoppedError(f"{error}; the finished files are kept, and --resume goes on after them") from error
    finally:
        pool.close()
    return summary


def _stopped_by_signals() -> Callable[[], bool]:
    numbers: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        numbers.append(number)
        # A second signal of the kind ends the process the hard way.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return lambda: bool(numbers)


def summarise(
    options: argparse.Namespace, opened: Opened, run: Replay, pool: EnginePool, complete: bool, seconds: float
) -> dict[str, Any]:
    """What `summary.json` holds."""
    description, source = opened.bundle.description, opened.source
    digests = run.bag.digests.hex()
    return {
        "complete": complete,
        "input": {"path": str(options.input), "kind": source.kind, "damage": source.damage},
        "bundle": {
            "name": description.name,
            "model_sha256": description.model_sha256,
            "weights_licence": description.weights_licence,
        },
        "engine": pool.name,
        "anomaly_threshold": run.cameras[0].threshold,
        "plan": opened.plan.identity,
        "cameras": [
            {
                "name": camera.topics.name,
                "image": camera.topics.image,
                "accounting": camera.accounting,
                "implausible": camera.warning_counts,
                "frames_too_far_apart": camera.too_far_apart,
                "ground": camera.ground,
                "problems": camera.problems,
                "topics": camera.output_topics,
            }
            for camera in run.cameras
        ],
        "topics": {topic: {"messages": run.bag.digests.counts[topic], "sha256": digests[topic]} for topic in digests},
        "this_run": {
            "jobs": options.jobs,
            "threads": pool.num_threads,
            "seconds": round(seconds, 3),
            "went_back": run.went_back,
        },
    }


def problems(summary: dict[str, Any]) -> list[str]:
    """What a user must know before trusting the run; empty when all is well."""
    found = [f"damaged: {text}" for text in summary["input"]["damage"]]
    for camera in summary["cameras"]:
        name = f"camera '{camera['name']}': " if camera["name"] else ""
        for fate in ("malformed", "failed"):
            if camera["accounting"][fate]:
                found.append(f"{name}{camera['accounting'][fate]} frames {fate}")
        found += [f"{name}{text}" for text in camera["problems"]]
    if not any(camera["accounting"]["published"] for camera in summary["cameras"]):
        found.append("no frame was replayed")
    return found


def tell(summary: dict[str, Any], out: Path) -> int:
    """Say what came of it; returns the exit code."""
    for camera in summary["cameras"]:
        counts = "  ".join(
            f"{name} {count}" for name, count in camera["accounting"].items() if count or name == "frames"
        )
        say(f"{camera['image']}: {counts}")
        if camera["ground"] != "known":
            say(f"  obstacles have no place on the ground: {camera['ground']}")
        for kind, count in camera["implausible"].items():
            say(f"  {count} frames are implausible: {kind.replace('_', ' ')}")
        if camera["frames_too_far_apart"]["frames"]:
            apart = camera["frames_too_far_apart"]
            say(f"  after {apart['frames']} frames no obstacle can be found: {apart['problem']}")
    for topic, facts in summary["topics"].items():
        say(f"{facts['sha256'][:16]}  {facts['messages']:6d}  {topic}")
    this_run = summary["this_run"]
    say(f"results: {out / BAG_FOLDER} ({summary['engine']}, {this_run['seconds']:.1f} s)")
    found = problems(summary)
    for problem in found:
        say(f"problem: {problem}", style="red")
    if not summary["complete"]:
        say("interrupted: the bag is whole up to here; the same command with --resume goes on", style="red")
        return INTERRUPTED
    return 1 if found else 0


def main(
    arguments: list[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
    observe: Callable[[argparse.Namespace, Opened], Sequence[ResultObserver]] = lambda options, opened: (),
) -> int:
    """Command line; returns the exit code.

    Args:
        parser: with the options of `make_parser`, and others that `observe` understands.
        observe: gives what shall see the results.
    """
    options = (parser or make_parser()).parse_args(arguments)
    viewer: RerunViewer | None = None
    try:
        opened = open_all(options)
        limits = Limits.from_options(options)
        say(
            f"{options.input} ({opened.source.kind}), "
            f"{len(opened.source.cameras)} camera(s): {', '.join(c.image for c in opened.source.cameras)}; "
            f"bundle {opened.bundle.description.name}"
        )
        left_out = sorted({*opened.source.copied} - {*opened.plan.copied}) if options.with_input else []
        if left_out:
            say(f"not copied, for they would pass for this replay's: {', '.join(left_out)}")
        summary = None
        if options.resume and options.out.is_dir() and any(options.out.iterdir()):
            make_room(options.out, True, False)
            summary = finished_summary(options.out)
        if summary is not None:
            say(f"{options.out}: that replay has come to its end already")
        else:
            observers = list(observe(options, opened))
            if options.rerun:
                viewer = _rerun_viewer(options.rerun, opened)
                observers.append(viewer)
            summary = replay(options, opened, observers)
        if viewer is not None:
            viewer.close()
        code = tell(summary, options.out)
        if options.compare is not None and summary["complete"]:
            comparison = compare(
                OutputFolder.reopen(options.out, PROGRAM),
                options.compare,
                opened.source,
                options.node_name,
                opened.bundle.description,
                limits,
            )
            code = max(code, print_comparison(comparison, say))
    except (PerceptionError, OSError) as error:
        say(f"replay: {error_line(error)}", style="red")
        return 1 if isinstance(error, ReplayStoppedError) else 2
    return code


def _rerun_viewer(target: str, opened: Opened) -> RerunViewer:
    try:
        # Imported here: the viewer is not installed everywhere.
        from ros_ood_perception.replay.rerun_viewer import RerunViewer
    except ImportError as error:
        raise ReplayError(
            f'--rerun: the viewer cannot be used ({error}); pip install "rerun-sdk==0.23.1" "pyarrow<18"'
        ) from error
    return RerunViewer(target, opened.bundle.description)


if __name__ == "__main__":
    sys.exit(main())
