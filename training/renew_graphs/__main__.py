"""Bring the graphs of an older bundle into the form that `training.export` writes today. Needs no checkpoint.

    python -m training.renew_graphs models/mine [--data camvid:FOLDER@val]

Weights, results, thresholds and measurements stay; engines take less time for them. Each new graph is compared with the
old one, and nothing is written if a class differs by more than rounding. A signed bundle has to be signed again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.shown_text import error_line
from training.bundles.precisions import COMPARED_FRAMES, spread
from training.data.arguments import data_argument, open_frames
from training.renew_graphs.renewed import renew


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.renew_graphs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument(
        "--data",
        type=data_argument,
        metavar="NAME:PATH[@SPLIT]",
        help="frames to compare the graphs on (default: drawn street scenes)",
    )
    options = parser.parse_args(arguments)
    try:
        frames = None if options.data is None else spread(open_frames(options.data, ()), COMPARED_FRAMES)
        found = renew(read_bundle(options.bundle), frames)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"renew_graphs: {error_line(error)}", file=sys.stderr)
        return 2
    for name, parity in found.items():
        print(f"{options.bundle / name}: {parity}")
    if not found:
        print(f"{options.bundle}: its graphs have today's form already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
