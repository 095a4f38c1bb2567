"""Render street drives with objects on the road that belong to no class, and their exact ground truth.

    python -m sample_drive out/drive --seed 1                        # a bag, a folder, the truth
    python -m sample_drive data/streets/train --seed 1000 --drives 40 --seconds 12 --rate 1 \\
        --no-unknown --frames                                                           # frames to train on

OUT gets `images/`, `labels/` (CamVid's class ids), `labels_masks/` (1: unknown object), `instances/` (which unknown
object) and `ground_truth.json`, unless only --bag is given; and `bag/` (MCAP: image, camera_info, tf, ground truth),
unless only --frames is given. The same seed gives the same bytes. docs/sample_drive.md describes every field.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ros_ood_perception.files.output_folder import OutputFolderError
from ros_ood_perception.number_arguments import LARGEST_SEED, MOST_THREADS, real, whole, width_by_height
from ros_ood_perception.shown_text import error_line

if TYPE_CHECKING:
    from sample_drive.drive import DriveSettings

MAX_DRIVES = 1000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sample_drive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to; made if it is not there")
    seed = whole(0, LARGEST_SEED)
    parser.add_argument(
        "--seed", type=seed, default=0, help="of the (first) drive: other streets, weather, objects (0)"
    )
    parser.add_argument("--seconds", type=real(0.0, 1e6), default=30.0, help="length of a drive (30)")
    parser.add_argument("--rate", type=real(0.0, 1e6), default=10.0, metavar="HZ", help="frames a second (10)")
    parser.add_argument(
        "--size", type=width_by_height, default=(640, 480), metavar="WxH", help="of the image, pixels (640x480)"
    )
    parser.add_argument(
        "--drives",
        type=whole(1, MAX_DRIVES),
        default=1,
        metavar="N",
        help="this many drives, with the seeds SEED, SEED + 1, ... (1)",
    )
    parser.add_argument("--no-unknown", action="store_true", help="leave the unknown objects out: frames to train on")
    parser.add_argument(
        "--swerves",
        action="store_true",
        help="with --no-unknown: the vehicle swerves where they would be, so that lane marks are seen from everywhere",
    )
    for option in ("--cyclists", "--pedestrians"):
        parser.add_argument(
            option,
            type=real(0.0, 20.0),
            default=1.0,
            metavar="TIMES",
            help=f"times as many {option[2:]} as usual, for frames to train on (1)",
        )
    parser.add_argument("--no-distortion", action="store_true", help="a lens that keeps lines straight")
    parser.add_argument("--steady", action="store_true", help="no pitch, roll and bounce: the camera stays as mounted")
    parser.add_argument("--frames", action="store_true", help="write images, labels and masks (default: and the bag)")
    parser.add_argument("--bag", action="store_true", help="write the bag (default: and the images)")
    parser.add_argument(
        "--jobs",
        type=whole(1, MOST_THREADS),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="threads that render; the bytes do not depend on it (as many as this process may use CPUs)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 a file cannot be written, 2 wrong argument, missing package."""
    parser = _parser()
    options = parser.parse_args(arguments)
    both = options.frames == options.bag
    options.frames, options.bag = options.frames or both, options.bag or both
    if options.swerves and not options.no_unknown:
        parser.error("--swerves is for --no-unknown; with unknown objects the vehicle swerves in any case")
    if options.drives > 1 and options.bag:
        parser.error("several drives go into one folder of frames: give --frames; a bag holds one drive")
    try:
        from rich.console import Console

        from sample_drive.drive import DriveSettingsError
        from sample_drive.drive_writer import write_drives
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("sample_drive", "ros_ood_perception")):
            raise
        print(
            f"The package '{error.name}' is missing; the renderer needs the packages of the demo: pip install -r "
            "requirements/vehicle.txt -r requirements/demo.txt",
            file=sys.stderr,
        )
        return 2
    try:
        wanted = _wanted_drives(options)
    except DriveSettingsError as error:
        parser.error(str(error))
    console = Console(stderr=True)
    started = time.monotonic()
    try:
        total = write_drives(
            options.out, wanted, frames=options.frames, bag=options.bag, jobs=options.jobs, console=console
        )
    except (OutputFolderError, OSError) as error:
        print(f"Cannot write the drive: {error_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted; the drive in {options.out} is incomplete.", file=sys.stderr)
        return 130
    parts = [name for name, there in (("frames", options.frames), ("bag", options.bag)) if there]
    console.print(f"{total} frames, {' and '.join(parts)} in {options.out}, {time.monotonic() - started:.0f} s")
    return 0


def _wanted_drives(options: argparse.Namespace) -> list[DriveSettings]:
    from sample_drive.drive import DriveSettings

    width, height = options.size
    return [
        DriveSettings(
            seed=options.seed + number,
            seconds=options.seconds,
            rate_hz=options.rate,
            height=height,
            width=width,
            unknown_objects=not options.no_unknown,
            always_swerves=options.swerves,
            distortion=not options.no_distortion,
            steady=options.steady,
            cyclists=options.cyclists,
            pedestrians=options.pedestrians,
        )
        for number in range(options.drives)
    ]


if __name__ == "__main__":
    sys.exit(main())
