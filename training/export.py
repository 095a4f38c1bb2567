"""Export a checkpoint to a model bundle.

    python -m training.export runs/camvid_small/best.pt models/camvid_small --data FOLDER

Writes one ONNX graph from the camera's bytes to class ids and anomaly score (opset 17), and `bundle.yaml` beside it.
FOLDER holds the splits of the training set. On its validation frames, the graph is compared with the network in PyTorch
and the anomaly thresholds are chosen. Without `--data` the bundle has no operating points, and the comparison is made
on noise. `--with` adds the model at other precisions, for GPUs (see training/precisions.py).

    python -m training.export runs/one/last.pt runs/two/last.pt models/mine --data FOLDER

exports the mean of the weights of runs that began from one network, such as joint stages with different patches. After
the first, the folder of a bundle stands for its network, if they were started from it (--segmenter BUNDLE).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.bundle.description import FITS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.number_arguments import image_size, real
from ros_ood_perception.shown_text import error_line
from training.bundles.export import export_bundle
from training.bundles.precisions import VARIANTS
from training.segmenter.deployed_segmenter import DEFAULT_SCORE
from training.segmenter.mask_scores import ALL_SCORES

TEMPERATURES = (1e-3, 1e3)
"""Smallest and largest that may be given; beyond, float32 logits lose their differences."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        parities = export_bundle(
            options.checkpoints,
            options.bundle,
            options.data,
            options.sizes,
            options.temperature,
            options.score,
            options.variants,
            options.fit,
        )
    except (PerceptionError, OSError, ValueError) as error:
        print(f"export: {error_line(error)}", file=sys.stderr)
        return 2
    for (height, width), parity in parities.items():
        print(
            f"{options.bundle}, {height}x{width}: {parity.label_agreement:.4%} of the labels agree with PyTorch on "
            f"{parity.frames} frames, the score differs by at most {parity.score_difference:.1e}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="checkpoint",
        help="best.pt or last.pt of a training run; of several, the mean of their weights is exported, also with those "
        "of a bundle that they were started from",
    )
    parser.add_argument(
        "bundle", type=Path, help="folder to write, and the model's name; the files of a bundle in it are replaced"
    )
    parser.add_argument("--data", type=Path, help="folder with the splits of the training set")
    parser.add_argument(
        "--size",
        dest="sizes",
        type=image_size,
        action="append",
        default=[],
        metavar="HEIGHTxWIDTH",
        help="size of the network's input (default: the size used in validation); again for a further one, of another "
        "aspect: a frame takes the nearest",
    )
    parser.add_argument(
        "--temperature", type=real(*TEMPERATURES), default=1.0, help="T of the anomaly score (default: 1)"
    )
    parser.add_argument(
        "--score",
        choices=ALL_SCORES,
        metavar="NAME",
        default=DEFAULT_SCORE,
        help=f"anomaly score (default: {DEFAULT_SCORE})",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="a frame of another aspect is stretched to the input (default), or letterboxed",
    )
    parser.add_argument(
        "--with",
        dest="variants",
        nargs="*",
        choices=VARIANTS,
        default=["fp16"],
        metavar="NAME",
        help=f"the model at other precisions, of {', '.join(VARIANTS)} (default: fp16); int8 needs --data",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
