"""Samples of a flow as a picture: what joint training pastes into training images.

    python -m training.sample_flow runs/flow_fast/best.pt samples.png --size 96x96 --magnification 1 2 4

The picture has a row for each magnification, from the same latents. Samples have SIZE / magnification and are enlarged
as in joint training. The checkpoint is one of training.train_flow or training.train_joint.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.number_arguments import LARGEST_SEED, image_size, whole
from ros_ood_perception.shown_text import error_line
from training.flow.checkpoint import read_flow
from training.flow.image_flow import ImageFlow
from training.joint.gradients import within_range
from training.joint.negative_config import MAGNIFICATIONS
from training.joint.placement import enlarged


@torch.no_grad()
def sample_sheet(flow: ImageFlow, size: tuple[int, int], magnifications: list[int], count: int, seed: int) -> Tensor:
    """A row of `count` samples for each magnification: (3, rows h, count w) uint8.

    Raises:
        ValueError: height and width are not multiples of 8 times a magnification.
    """
    rows = []
    for factor in magnifications:
        if size[0] % factor or size[1] % factor:
            raise ValueError(f"samples of {size[0]}x{size[1]} cannot be enlarged {factor} times")
        generator = torch.Generator().manual_seed(seed)
        latents = flow.draw_latents(count, size[0] // factor, size[1] // factor, generator)
        samples = enlarged(within_range(flow.inverse(latents) - 0.5), factor)
        rows.append(torch.cat(list(samples.round().to(torch.uint8)), dim=2))
    return torch.cat(rows, dim=1)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.sample_flow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--size", type=image_size, default=(96, 96), help="HEIGHTxWIDTH (default: 96x96)")
    parser.add_argument("--magnification", type=int, nargs="+", choices=MAGNIFICATIONS, default=[1])
    parser.add_argument("--count", type=whole(1, 1000), default=8, help="samples in a row (default: 8)")
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0)
    options = parser.parse_args(arguments)
    try:
        check_apart("the picture", options.picture, {"the checkpoint": options.checkpoint})
        flow = read_flow(options.checkpoint)
        sheet = sample_sheet(flow, options.size, options.magnification, options.count, options.seed)
        picture = io.BytesIO()
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(picture, format="PNG", optimize=True)
        write_file(options.picture, picture.getvalue())
    except (PerceptionError, OSError, ValueError) as error:
        print(f"sample_flow: {error_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
