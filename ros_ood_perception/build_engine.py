"""Build the TensorRT plan of a bundle for this machine's GPU, and check it.

    ros2 run ros_ood_perception build_engine BUNDLE --precision fp16 --size 1080x1920

Takes minutes, for each input size of the bundle. The plans go into the cache, where the engine `tensorrt` finds them;
valid plans in it are kept. Size and batch are the largest that the engine will be given (TensorRT 8.6: the only ones).
The node passes one frame at a time, however many cameras there are. It uses plans of batch 1 and of the size
engine_image_height x engine_image_width (its parameters).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.bundle.description import LARGEST_SIDE
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.engine import GpuOptions
from ros_ood_perception.inference.engine_names import PRECISIONS
from ros_ood_perception.number_arguments import image_size, whole

MOST_FRAMES = 64


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    defaults = GpuOptions()
    parser = argparse.ArgumentParser(
        prog="build_engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument("--precision", choices=PRECISIONS, default=defaults.precision)
    parser.add_argument(
        "--size",
        type=image_size,
        default=defaults.image_size,
        metavar="HEIGHTxWIDTH",
        help="default: 1080x1920; without effect for a bundle that letterboxes frames",
    )
    parser.add_argument(
        "--batch",
        type=whole(1, MOST_FRAMES),
        default=defaults.batch,
        metavar="N",
        help="frames at a time; default: 1, as the node needs it",
    )
    parser.add_argument(
        "--max-input-height",
        type=whole(0, LARGEST_SIDE),
        default=0,
        metavar="ROWS",
        help="as the node's parameter max_input_height; default: plans of all input sizes",
    )
    parser.add_argument("--cache", type=Path, help="folder of the plans; default: the user's cache folder")
    parser.add_argument(
        "--bundle-public-key",
        default="",
        metavar="KEY",
        help="ed25519 key that must have signed the bundle; default: the signature is not checked",
    )
    options = parser.parse_args(arguments)
    try:
        bundle = read_bundle(options.bundle, options.bundle_public_key).up_to(options.max_input_height)
        from ros_ood_perception.inference.tensorrt.plan import open_tensorrt, sizes_of_plans

        gpu = GpuOptions(
            options.precision,
            options.size,
            options.batch,
            True,
            options.cache,
            log=lambda text: print(text, flush=True),
        )
        for size in sizes_of_plans(bundle, gpu):
            engine, details = open_tensorrt(bundle.at(size), gpu)
            engine.close()
            print(f"{size[0]}x{size[1]}: {details}")
    except PerceptionError as error:
        print(f"build_engine: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
