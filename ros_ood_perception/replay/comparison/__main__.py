"""Compare two runs that are there already, without replaying.

    python -m ros_ood_perception.replay.comparison out/new out/old --min-class-agreement 0.97

Each run is the --out of a replay, a bag with results or a summary.json. DIR holds comparison.json and pictures of the
frames that differ most. The exit code is 1 where a limit is not met or a run is damaged, and 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.replay.comparison.limits import Limits
from ros_ood_perception.replay.comparison.opened_run import OpenedRun, open_run
from ros_ood_perception.replay.comparison.printing import print_comparison
from ros_ood_perception.replay.comparison.runs import compare
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.report.replay_output import ReplayOutput
from ros_ood_perception.shown_text import error_line, printable

PROGRAM = "replay.comparison"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ros_ood_perception.replay.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("this", type=Path, help="the new run")
    parser.add_argument("compare", type=Path, metavar="other", help="the run that it is compared with")
    default = Path("out/comparison")
    parser.add_argument(
        "--out", type=Path, default=default, metavar="DIR", help=f"for the results (default: {default})"
    )
    Limits.add_options(parser)
    options = parser.parse_args(arguments)
    try:
        check_apart("--out", options.out, {"this run": options.this, "the other run": options.compare})
        limits = Limits.from_options(options)
        here, there = open_run(options.this), open_run(options.compare)
        source, node_name = _recording(here)
        output = OutputFolder.claim(options.out, PROGRAM)
        comparison = compare(output, here, there, source, node_name, limits)
    except (PerceptionError, OSError) as error:
        print(f"comparison: {error_line(error)}", file=sys.stderr)
        return 2
    return print_comparison(comparison, lambda text, style=None: print(printable(text), file=sys.stderr))


def _recording(run: OpenedRun) -> tuple[Input | None, str]:
    """The recording with the camera images, and the node's name; without images unless the run is a replay."""
    if run.bag is None or run.summary is None:
        return None, ""
    try:
        folder = run.path if run.bag.path != run.path else run.path.parent
        output = ReplayOutput.read(folder)
        source, problem = output.open_recording()
    except (PerceptionError, OSError) as error:
        source, problem, output = None, str(error), None
    if problem:
        print(f"comparison: {printable(problem)}", file=sys.stderr)
    return source, output.node_name if output else ""


if __name__ == "__main__":
    sys.exit(main())
