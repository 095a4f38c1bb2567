"""Measure the obstacles of a replay against the truth: what was found, from where on, and how often for nothing.

    python -m ros_ood_perception.replay BAG --bundle models/mine --out out/replay
    python -m training.evaluate_obstacles out/replay --truth truth.json --json obstacles.json
    python -m training.evaluate_obstacles out/a out/b --truth a.json --truth b.json         # two drives together
    python -m training.evaluate_obstacles out/empty --nothing-unknown --report false.html   # every obstacle is false

REPLAY_OUT is the folder of a finished replay with the outputs anomaly_mask, obstacle_detections and, to judge places,
obstacles (all are written by default). FILE is the ground_truth.json of a sample drive, or a file of your own:

    {"format": "ros_ood_perception/obstacle_truth", "version": 1,
     "cameras": [{"name": "", "position": [1.6, 0.0]}],
     "frames": [{"stamp_ns": 1700000000200000000,
                 "objects": [{"id": "1", "kind": "pallet", "box": [301, 212, 42, 30], "footprint": [[12.1, 0.4]]}]}]}

List every frame that you looked at with all its unknown objects; an empty list says that there is none. Frames that
are not listed are not measured. An object needs a box (left, top, width, height in pixels) or a footprint (places on
the ground in base_link, metres; one is enough). With a box it is checked that the anomaly mask marks the object; with
a footprint, that the obstacle stands there. Give both if you can. `position` is x, y of the point below the camera in
base_link, metres; ranges count from there.

An object is found in a frame if a fifth of its pixels is in the anomaly mask and an obstacle covers it. An obstacle is
false if its region holds no pixel of any object. docs/measuring.md defines every figure and every field.

Exit code: 0 success; 1 a message or a frame could not be measured; 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.number_arguments import real, whole
from ros_ood_perception.shown_text import error_line
from training.evaluate_obstacles.report import write_obstacle_report
from training.evaluation.obstacle_tables import print_obstacles, unmeasured
from training.evaluation.tables import say
from training.metrics.obstacles.judging import Rule
from training.metrics.obstacles.replayed import MeasuredReplay, TruthOfReplay, measured_replays
from training.metrics.obstacles.truth import NothingUnknown, ObstacleTruth
from training.metrics.obstacles.truth_file import open_truth

DEFAULTS = Rule()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 if something could not be measured, 2 for bad input."""
    parser = _parser()
    # So that each replay can be written beside its truth.
    options = parser.parse_intermixed_args(arguments)
    if options.nothing_unknown and options.truth:
        parser.error("--truth and --nothing-unknown exclude each other: the latter says that no object is in any frame")
    if not options.nothing_unknown and len(options.truth) != len(options.replays):
        parser.error(f"{len(options.replays)} REPLAY_OUT and {len(options.truth)} --truth; give one truth for each")
    if options.recording and len(options.recording) != len(options.replays):
        parser.error(
            f"{len(options.replays)} REPLAY_OUT and {len(options.recording)} --recording; give one for each, or none"
        )
    try:
        output, replays = _measured(options)
        if options.json is not None:
            write_json(options.json, output)
        if options.report is not None:
            for note in write_obstacle_report(options.report, output, replays):
                say(note)
    except (PerceptionError, OSError) as error:
        say(f"evaluate_obstacles: {error_line(error)}")
        return 2
    print_obstacles(output)
    return 1 if unmeasured(output) else 0


def _measured(options: argparse.Namespace) -> tuple[dict[str, Any], list[MeasuredReplay]]:
    read = {"--truth": options.truth, "REPLAY_OUT": options.replays, "--recording": options.recording}
    for option, written in (("--json", options.json), ("--report", options.report)):
        for name, paths in read.items():
            for path in paths if written is not None else ():
                check_apart(option, written, {name: path})
    rule = Rule(options.min_pixels, options.max_range, options.min_marked)
    recordings = options.recording or [None] * len(options.replays)
    truths: list[ObstacleTruth] = [open_truth(path) for path in options.truth]
    if options.nothing_unknown:
        truths = [NothingUnknown()] * len(options.replays)
    replays = [
        TruthOfReplay(out, truth, recording)
        for out, truth, recording in zip(options.replays, truths, recordings, strict=True)
    ]
    return measured_replays(replays, rule, options.odometry)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_obstacles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("replays", type=Path, nargs="+", metavar="REPLAY_OUT", help="--out of a replay; each is one drive")
    add(
        "--truth",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="truth of the drive; one for each REPLAY_OUT, in their order",
    )
    add("--nothing-unknown", action="store_true", help="no unknown object lies on these drives; needs no --truth")
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    add("--report", type=Path, metavar="FILE.html", help="write curves, timelines and pictures of false obstacles")
    add(
        "--recording",
        type=Path,
        action="append",
        default=[],
        metavar="BAG",
        help="bag with odometry or /tf, for figures by kilometre; one for each REPLAY_OUT (default: what was replayed)",
    )
    add("--odometry", metavar="TOPIC", help="nav_msgs/Odometry to use (default: the only one, or else /tf)")
    add(
        "--min-pixels",
        type=whole(1, 10**9),
        default=DEFAULTS.min_pixels,
        metavar="N",
        help=f"an object in view shows so many pixels (default: {DEFAULTS.min_pixels})",
    )
    add(
        "--max-range",
        type=real(0.0, 10_000.0, above=True),
        default=DEFAULTS.max_range_m,
        metavar="M",
        help=f"and is at most so far away, metres (default: {DEFAULTS.max_range_m:g})",
    )
    add(
        "--min-marked",
        type=real(0.0, 1.0),
        default=DEFAULTS.min_marked,
        metavar="SHARE",
        help=f"of a found object's pixels, in the anomaly mask (default: {DEFAULTS.min_marked:g})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
