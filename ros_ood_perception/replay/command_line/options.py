"""Replay a recording: every frame through the node's own perception, in order, without middleware.

    ros2 run ros_ood_perception replay BAG_OR_FOLDER_OR_VIDEO --bundle /opt/models/mine --out out/replay
    python -m ros_ood_perception.replay BAG --params vehicle.param.yaml --start 12.5 --stop 40 --every 2 --jobs 2
    python -m ros_ood_perception.replay BAG --bundle NEW --compare out/before/bag --min-class-agreement 0.98

Bags are rosbag2 (MCAP, SQLite3; a folder or a file) or ROS 1. OUT/bag is an MCAP bag with the results at the times of
their frames. OUT/summary.json says what was done, with a SHA-256 for each topic. The same recording, bundle, engine and
parameters give the same digests on every run, with any --jobs.

Exit code: 0 success; 1 something could not be read or computed, or a limit of --compare was not met; 2 bad input;
130 interrupted (--resume continues).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.replay.comparison.limits import Limits

DEFAULT_OUTPUTS = (
    "semantic_mask",
    "anomaly_mask",
    "anomaly_score",
    "label_info",
    "obstacles",
    "obstacle_markers",
    "obstacle_detections",
)
LONGEST_S = 1e9
RATES_HZ = (0.001, 1000.0)
MOST_FRAMES = 10**9
MOST_JOBS = 64


def make_parser() -> argparse.ArgumentParser:
    """The options of a replay."""
    parser = argparse.ArgumentParser(
        prog="replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="bag (folder, .mcap, .db3, ROS 1 .bag), folder of images, or video")
    _add_frames(parser.add_argument_group("frames"))
    _add_model(parser.add_argument_group("model and parameters"))
    _add_output(parser.add_argument_group("output"))
    group = parser.add_argument_group("comparison", "The exit code is 1 where a limit is not met.")
    group.add_argument(
        "--compare", type=Path, metavar="OTHER", help="--out of another replay, a bag with results, or a summary.json"
    )
    Limits.add_options(group)
    return parser


def _add_frames(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--camera",
        action="append",
        default=[],
        metavar="[NAME=]TOPIC",
        help="image topic; repeat (default: all in colour)",
    )
    seconds = real(0.0, LONGEST_S)
    add("--start", type=seconds, metavar="S", help="seconds after the recording's first frame")
    add("--stop", type=seconds, metavar="S", help="likewise; frames before that time are replayed")
    every = whole(1, MOST_FRAMES)
    add("--every", type=every, default=1, metavar="N", help="every N-th frame of each camera (default: 1)")
    add(
        "--rate",
        type=real(*RATES_HZ),
        default=10.0,
        metavar="HZ",
        help="frames a second of a folder of images (default: 10)",
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--bundle", type=Path, metavar="DIR", help="model bundle (default: the parameter bundle of the node)")
    add("--params", type=Path, metavar="FILE", help="parameter file of the node (default: the node's defaults)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter of the node; repeat")
    add("--engine", choices=ENGINES, help="engine for the model (default: the parameter's, auto)")
    add(
        "--jobs",
        type=whole(1, MOST_JOBS),
        default=1,
        metavar="N",
        help="processes for inference; the results do not depend on it (default: 1)",
    )
    add(
        "--threads",
        type=whole(0, MOST_THREADS),
        default=0,
        metavar="N",
        help="CPU threads of each process (default: the parameter's, all)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
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
        help="prefix of the output topics (default: /perception_node)",
    )
    add(
        "--with-input",
        action="store_true",
        help="also copy the recording's topics into the output, except /diagnostics and results under --node-name",
    )
    add(
        "--frames-per-file",
        type=whole(1, MOST_FRAMES),
        default=600,
        metavar="N",
        help="frames of one file of the output bag; a crash loses at most these (default: 600)",
    )
    add(
        "--compression",
        choices=("zstd", "none"),
        default="zstd",
        help="of the chunks of the output bag; the digests do not depend on it (default: zstd)",
    )
    add("--resume", action="store_true", help="continue the interrupted replay in --out")
    add("--overwrite", action="store_true", help="replace an interrupted replay in --out")
    add("--report", type=Path, metavar="FILE.html", help="also write a report to look at: one HTML file")
    add("--rerun", metavar="FILE", help="also write FILE.rrd for the Rerun viewer; 'spawn' opens the viewer")
