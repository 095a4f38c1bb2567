"""Is the new bundle worse anywhere? The figures of `replay --compare` over a fleet.

    python -m fleet.compare out/old out/new --old-bundle models/old --new-bundle models/new --every 10 \\
        --min-class-agreement 0.97 --max-obstacles-lost-share 0.1 --everywhere

OLD and NEW are the --out of fleet.mine over the same recordings. Obstacles and missing frames are compared in every
frame, from the tables. Classes, anomalies and scores need the pixels: with both bundles, every n-th frame is read again
and both networks run on it. The figures are those of the fleet, and of each recording, place, hour and class, the worst
first. The exit code is 1 where a limit is not met, or something could not be compared.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from rich.console import Console

from fleet.comparison.comparing import FleetLimits, FleetPair, compared_rows, comparison_facts, write_changes
from fleet.comparison.frames import ModelRun, PixelComparer
from fleet.comparison.groups import PLACE_KINDS, POSITIONS, Cells, GroupSums
from fleet.comparison.worst import write_worst
from fleet.report.comparison_page import comparison_page
from fleet.tables.mined import MinedTables, TablesError
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.replay.comparison.classes import match_classes
from ros_ood_perception.replay.comparison.limits import ComparisonError, Limits
from ros_ood_perception.replay.comparison.opened_run import RunClasses
from ros_ood_perception.shown_text import error_line, printable

PROGRAM = "fleet.compare"
COMPARISON_FILE, PAGE_FILE = "comparison.json", "report.html"
SHOWN_GROUPS = 5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fleet.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # Under the name that the limits of a replay look for.
    parser.add_argument("compare", metavar="OLD", help="--out of fleet.mine with the old bundle; path or URI")
    parser.add_argument("new", metavar="NEW", help="the same with the new one")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--old-bundle", type=Path, metavar="DIR", help="for the figures of pixels, with --new-bundle")
    parser.add_argument("--new-bundle", type=Path, metavar="DIR")
    parser.add_argument(
        "--every", type=whole(1, 10**6), default=1, metavar="N", help="run every n-th frame of a camera (1)"
    )
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="runs both bundles (auto)")
    parser.add_argument("--threads", type=whole(0, MOST_THREADS), default=0, help="of the engine; 0: all CPUs (0)")
    parser.add_argument(
        "--rate", type=real(0.0, 1e6), default=10.0, help="of folders of images, as they were mined (10)"
    )
    places = "places by latitude and longitude, by x and y (one map for all recordings), or none"
    parser.add_argument("--place", choices=PLACE_KINDS, default=POSITIONS, help=f"{places} ({POSITIONS})")
    parser.add_argument("--cell-m", type=real(1.0, 1e6), default=100.0, help="side of a place, metres (100)")
    parser.add_argument(
        "--utc-offset-h", type=real(-14.0, 14.0), default=0.0, help="hours of the day are after UTC (0)"
    )
    Limits.add_options(parser)
    share = real(0.0, 1.0)
    parser.add_argument("--max-obstacles-lost-share", type=share, metavar="X", help="most: of the old obstacles")
    parser.add_argument("--max-obstacles-gained-share", type=share, metavar="X", help="most: of the new obstacles")
    parser.add_argument(
        "--everywhere", action="store_true", help="shares and IoU must also hold for each recording, place and hour"
    )
    parser.add_argument(
        "--least-frames", type=whole(1, 10**9), default=50, metavar="N", help="smaller groups are not checked (50)"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 all limits are met, 1 not, or not all was compared; 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        return _compare(options)
    except (PerceptionError, OSError) as error:
        print(f"compare: {error_line(error)}", file=sys.stderr)
        return 2


def _compare(options: argparse.Namespace) -> int:
    old, new = MinedTables(options.compare), MinedTables(options.new)
    bundles = {"--old-bundle": options.old_bundle, "--new-bundle": options.new_bundle}
    for read in (old.read(), new.read(), bundles):
        check_apart("--out", options.out, read)
    pair = FleetPair.of(old, new)
    if not pair.recordings:
        raise ComparisonError(f"{options.compare} and {options.new} have no recording in common; mine the same ones")
    limits = _limits(options)
    comparer = _comparer(options, pair)
    output = OutputFolder.claim(options.out, PROGRAM)
    sums = GroupSums(len(pair.classes.names), Cells(options.place, options.cell_m), options.utc_offset_h)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("compare", total=len(pair.recordings))
        tables = compared_rows(pair, comparer, options.every, pair.recordings)
        write_changes(output, tables, sums, lambda: progress.advance(task))
    facts = {"old": pair.old.name, "new": pair.new.name, **comparison_facts(pair, sums, limits)}
    facts["worst_frames"] = [] if comparer is None else write_worst(output, comparer)
    facts["problems"] = [] if comparer is None else comparer.problems
    if comparer is not None:
        comparer.close()
    output.write(COMPARISON_FILE, json_text(facts))
    output.write(PAGE_FILE, comparison_page(facts, options.out))
    return _print(facts, options.out)


def _limits(options: argparse.Namespace) -> FleetLimits:
    own = {f.name: getattr(options, f.name) for f in fields(FleetLimits) if f.name != "fleet"}
    return FleetLimits(Limits.from_options(options), **own)


def _comparer(options: argparse.Namespace, pair: FleetPair) -> PixelComparer | None:
    folders = (options.old_bundle, options.new_bundle)
    if folders == (None, None):
        return None
    if None in folders:
        raise ComparisonError("one bundle is given; figures of pixels need --old-bundle and --new-bundle")
    runs = []
    for option, folder, tables in zip(("--old-bundle", "--new-bundle"), folders, (pair.old, pair.new), strict=True):
        bundle, mined = read_bundle(folder), tables.model().facts
        if bundle.description.model_sha256 != mined["model_sha256"]:
            raise TablesError(
                f"{option} {folder} is not the bundle '{mined['bundle']}' of {tables.name}; give that one"
            )
        runs.append(ModelRun(bundle, float(mined["threshold"])))
    old, new = runs
    # Those of the pair, with the colours that only bundles have.
    classes = match_classes(*(RunClasses.of_bundle(run.bundle.description) for run in (new, old)))
    return PixelComparer(old, new, classes, options.engine, options.threads, options.rate)


def _print(facts: dict[str, object], out: Path) -> int:
    fleet, groups = facts["fleet"], facts["groups"]
    assert isinstance(fleet, dict)
    assert isinstance(groups, dict)

    def say(text: str) -> None:
        print(printable(text, 400), file=sys.stderr)

    say(f"{fleet['frames']} frames of {facts['recordings']} recordings; pixels of {fleet['frames_with_pixels']} frames")
    for name in ("frames_missing", "class_agreement", "class_iou", "anomaly_iou", "score_difference"):
        value = fleet[name]
        say(f"  {name.replace('_', ' ')}: {'unknown' if value is None else f'{value:.6g}'}")
    for what, of in (("lost", "old"), ("gained", "new")):
        say(f"  obstacles {what}: {fleet[f'obstacles_{what}']} of {fleet[f'obstacles_{of}']}")
    for kind, entries in groups.items():
        for entry in entries[:SHOWN_GROUPS]:
            agreement = entry["class_agreement"]
            shown = "" if agreement is None else f", class agreement {agreement:.4f}"
            lost = f"lost {entry['obstacles_lost']} of {entry['obstacles_old']} obstacles"
            say(f"  {kind} {entry['name']}: {lost}{shown} ({entry['frames']} frames)")
    for title in ("recordings_missing", "problems", "limits_broken"):
        found = facts[title]
        assert isinstance(found, list)
        for text in found[:20]:
            say(f"{'limit' if title == 'limits_broken' else 'problem'}: {text}")
    say(f"report: {out / PAGE_FILE}")
    return 1 if facts["limits_broken"] or facts["recordings_missing"] or facts["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
