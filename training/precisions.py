"""The model of a bundle at other precisions, for engines that gain from them.

    python -m training.precisions models/camvid_small --config training/configs/camvid_small.yaml \\
        --data camvid:FOLDER/val --calibration camvid:FOLDER/train

fp16 is an ONNX graph with the network in half precision and everything around it in float32. int8 is an ONNX graph with
quantisation nodes before its convolutions; its ranges come from the calibration frames. Each is compared with
`model.onnx` on the frames of --data. It is written into the bundle with the differences found, or refused.
`training.export --with` makes the same from a checkpoint; this command adds them to a finished bundle. An imported
bundle (training.import_network) needs no --config.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.strict_yaml import from_mapping, load_yaml
from ros_ood_perception.shown_text import error_line
from training.bundles.precisions import VARIANTS, add_variants, share_note
from training.data.arguments import data_argument
from training.segmenter.ladder_segmenter import SegmenterConfig


def _segmenter_config(path: Path) -> SegmenterConfig:
    read = load_yaml(path)
    section = read.get("segmenter", {}) if isinstance(read, dict) else {}
    return from_mapping(section, SegmenterConfig, f"{path}: segmenter")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.precisions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument(
        "--config", type=Path, help="the configuration that it was trained with (YAML); not if imported"
    )
    parser.add_argument(
        "--with",
        dest="names",
        nargs="+",
        choices=VARIANTS,
        default=["fp16", "int8"],
        metavar="NAME",
        help=f"which of {', '.join(VARIANTS)} (default: fp16 int8)",
    )
    parser.add_argument("--data", type=data_argument, metavar="NAME:PATH[@SPLIT]", help="frames to compare on")
    parser.add_argument("--calibration", type=data_argument, metavar="NAME:PATH[@SPLIT]", help="frames for int8")
    options = parser.parse_args(arguments)
    try:
        config = None if options.config is None else _segmenter_config(options.config)
        bundle = add_variants(read_bundle(options.bundle), config, options.names, options.data, options.calibration)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"precisions: {error_line(error)}", file=sys.stderr)
        return 2
    for variant in bundle.description.variants:
        print(
            f"{bundle.folder / variant.file}: {variant.label_agreement:.3%} of the labels as model.onnx gives them, "
            f"the score differs by {variant.score_difference:.1e} in the mean ({variant.measured_on})"
        )
    note = share_note(bundle)
    if note:
        print(note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
