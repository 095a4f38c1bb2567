"""Give a bundle a further input size, for cameras of another aspect or with more pixels.

    python -m training.add_size models/mine --size 768x1344

The graphs of the size are made from the bundle's own, at each of its precisions. The weights are the same, and no
checkpoint is needed. A frame takes the size with the nearest aspect, and of several the highest that has no more rows
than the frame. `training.export --size ... --size ...` makes the same from a checkpoint.

It needs the packages of training (`./test.sh --version` installs them). A signed bundle has to be signed again.
Thresholds stay as they are. `benchmark/quality/other_aspects.py` measures how far they hold at the new size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.number_arguments import image_size
from ros_ood_perception.shown_text import error_line
from training.bundles.sizes.further_sizes import add_sizes
from training.data.arguments import data_argument


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.add_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument(
        "--size",
        dest="sizes",
        type=image_size,
        action="append",
        required=True,
        metavar="HEIGHTxWIDTH",
        help="size of the network's input; may be repeated",
    )
    parser.add_argument(
        "--data",
        type=data_argument,
        metavar="NAME:PATH[@SPLIT]",
        help="frames to compare the precisions on (default: drawn street scenes)",
    )
    options = parser.parse_args(arguments)
    try:
        bundle = add_sizes(read_bundle(options.bundle), options.sizes, options.data)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"add_size: {error_line(error)}", file=sys.stderr)
        return 2
    for further in bundle.description.input.further_sizes:
        print(f"{bundle.folder / further.file}: {further.height}x{further.width}")
        for variant in further.variants:
            print(
                f"{bundle.folder / variant.file}: {variant.label_agreement:.3%} of the labels as {further.file} gives "
                f"them, the score differs by {variant.score_difference:.1e} in the mean ({variant.measured_on})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
