"""Make a bundle of a network that was trained elsewhere, without any training.

    python -m training.import_network FOLDER models/mine --data camvid:FRAMES@val
    python -m training.import_network NET.onnx models/mine --mean 123.675 116.28 103.53 --std 58.395 57.12 57.375 \\
        --classes classes.yaml --licence "CC BY 4.0"

SOURCE is a local folder of `transformers` (or a name on its hub), or an ONNX file that gives class logits (N, K, h, w).
A file (or a folder with a `model.onnx`) whose inputs and outputs are those of a bundle is taken as it is. The bundle's
graph is compared with the source's own forward pass on the frames of --data, or on noise; then its thresholds are
chosen with `python -m training.calibrate`. docs/any_network.md has the networks, and the scores that suit them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from ros_ood_perception.bundle.description import FITS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.number_arguments import image_size, real
from ros_ood_perception.shown_text import error_line
from training.bundles.precisions import VARIANTS
from training.data.arguments import data_argument
from training.importing.bundle import import_bundle
from training.importing.class_list import read_class_file
from training.importing.request import ImportRequest
from training.importing.wrapped import graph_of_contract, wrap
from training.segmenter.input_normalisation import InputNormalisation
from training.segmenter.mask_scores import ALL_SCORES
from training.segmenter.networks.refusal import NetworkRefusedError

CHANNEL_ORDERS = ("rgb", "bgr")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        request = _request(options, arguments)
        contract = graph_of_contract(request.source)
        if contract is not None:
            wrapped = wrap(request, contract)
            print(f"{wrapped.folder}: the graph of {contract} as it was; nothing was compared")
            return 0
        imported = import_bundle(request)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"import_network: {error_line(error)}", file=sys.stderr)
        return 2
    for note in imported.notes:
        print(note)
    description = imported.bundle.description
    drivable = ", ".join(c.name for c in description.classes if c.drivable)
    print(
        f"{imported.bundle.folder}: {description.training.imported_from}, {description.input.sizes_text}, "
        f"{description.score.name}, {len(description.classes)} classes (drivable: {drivable or 'none'}), licence "
        f"{description.weights_licence}"
    )
    for (height, width), parity in imported.parity.items():
        print(f"  {height}x{width} compared with the source on {imported.compared_on}: {parity}")
    print("  it has no thresholds yet: python -m training.calibrate chooses them on labelled frames")
    return 0


def _request(options: argparse.Namespace, arguments: list[str] | None) -> ImportRequest:
    if (options.mean is None) != (options.std is None):
        raise NetworkRefusedError("--mean and --std belong together; give both")
    given = sys.argv[1:] if arguments is None else arguments
    # Of paths of this machine, also behind the name of a data set, the record keeps the last part.
    command = " ".join(shlex.quote(re.sub(r"^([\w-]+:)?/(?:.*/)?([^/]+)/?$", r"\1\2", text)) for text in given)
    return ImportRequest(
        source=options.source,
        bundle=options.bundle,
        size=options.sizes[0] if options.sizes else None,
        further_sizes=options.sizes[1:],
        fit=options.fit,
        score=options.score,
        classes=None if options.classes is None else read_class_file(options.classes),
        drivable=tuple(options.drivable),
        licence=options.licence,
        normalisation=None if options.mean is None else InputNormalisation(tuple(options.mean), tuple(options.std)),
        bgr=options.channel_order == "bgr",
        data=options.data,
        calibration=options.calibration,
        variants=tuple(options.variants),
        command=f"python -m training.import_network {command}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.import_network",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="folder of transformers, name on its hub, or ONNX file")
    parser.add_argument("bundle", type=Path, help="folder to write, and the model's name")
    parser.add_argument(
        "--size",
        dest="sizes",
        type=image_size,
        action="append",
        default=[],
        metavar="HEIGHTxWIDTH",
        help="of the input, rounded to what the network takes (default: 512x1024); again for cameras of another aspect",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        help="a frame of another aspect is stretched to the input (default), or letterboxed",
    )
    parser.add_argument("--score", choices=ALL_SCORES, metavar="NAME", help="anomaly score; it must suit the network")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="YAML with names, colours and drivable classes")
    parser.add_argument(
        "--drivable", nargs="+", default=[], metavar="NAME", help="the classes that the vehicle drives on"
    )
    parser.add_argument("--licence", metavar="TEXT", help="of the weights; needed where the source does not say it")
    level = real(-1e4, 1e4)
    for name, what in (("--mean", "mean"), ("--std", "standard deviation")):
        parser.add_argument(
            name,
            nargs=3,
            type=level,
            metavar=("R", "G", "B"),
            help=f"{what} of an ONNX file's input, grey levels 0-255",
        )
    parser.add_argument(
        "--channel-order", choices=CHANNEL_ORDERS, default="rgb", help="order that an ONNX file takes (default: rgb)"
    )
    parser.add_argument("--data", type=data_argument, metavar="NAME:PATH[@SPLIT]", help="frames to compare on")
    parser.add_argument("--calibration", type=data_argument, metavar="NAME:PATH[@SPLIT]", help="frames for int8")
    parser.add_argument(
        "--with",
        dest="variants",
        nargs="*",
        choices=VARIANTS,
        default=[],
        metavar="NAME",
        help=f"the model at other precisions, of {', '.join(VARIANTS)} (default: none); int8 needs --calibration",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
