"""Render drives through streets with objects on the road that no class knows, and their exact ground truth.

    python -m sample_drive out/drive --seed 1                        # a bag, a folder, the truth
    python -m sample_drive data/streets/train --seed 1000 --drives 40 --seconds 12 --rate 1 \\
        --no-unknown --frames                                                           # frames to train on

OUT gets `images/`, `labels/` (CamVid's class ids), `labels_masks/` (1: unknown object) and `ground_truth.json` unless
--bag is given alone, and `bag/` (MCAP: image, camera_info, tf, ground truth) unless --frames is given alone.
The same seed gives the same bytes. docs/sample_drive.md describes every field.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from ros_ood_perception.files.output_folder import OutputFolderError
from ros_ood_perception.number_arguments import LARGEST_SEED, MOST_THREADS, real, whole
from ros_ood_perception.shown_text import error_line

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
    parser.add_argument("--size", default="640x480", metavar="WxH", help="of the image, pixels (640x480)")
    parser.add_argument(
        "--drives",
        type=whole(1, MAX_DRIVES),
        default=1,
        metavar="N",
        help="this many drives, with the seeds SEED, SEED + 1, ... (1)",
    )
    parser.add_argument("--no-unknown", action="store_true", help="leave the unknown objects out: frames to train on")
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
    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(options.size) < 16):
        parser.error(f"--size is '{options.size}'; it must be WIDTHxHEIGHT in pixels, as in 640x480")
    both = options.frames == options.bag
    if options.drives > 1 and (both or options.bag):
        parser.error("several drives go into one folder of frames: give --frames; a bag holds one drive")
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from sample_drive.drive import DriveSettings, DriveSettingsError, SampleDrive
        from sample_drive.drive_bag import DriveBag
        from sample_drive.frame_folder import FrameFolder
    except ModuleNotFoundError as error:
        print(
            f"The package '{error.name}' is missing; the renderer needs what the demo needs: pip install -r "
            "requirements/vehicle.txt -r requirements/demo.txt",
            file=sys.stderr,
        )
        return 2
    try:
        wanted = [
            DriveSettings(
                seed=options.seed + number,
                seconds=options.seconds,
                rate_hz=options.rate,
                height=int(height),
                width=int(width),
                unknown_objects=not options.no_unknown,
                distortion=not options.no_distortion,
                steady=options.steady,
            )
            for number in range(options.drives)
        ]
    except DriveSettingsError as error:
        parser.error(str(error))
    console = Console(stderr=True)
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        folder = FrameFolder(options.out) if both or options.frames else None
        with Progress(*columns, console=console) as progress:
            total = sum(settings.frame_count for settings in wanted)
            task = progress.add_task("first use: compiling the renderer, half a minute", total=total)
            for settings in wanted:
                drive = SampleDrive(settings)
                if folder is not None:
                    folder.begin(drive)
                with contextlib.ExitStack() as stack:
                    bag = stack.enter_context(DriveBag(options.out / "bag", drive)) if both or options.bag else None
                    for frame in drive.frames(options.jobs):
                        if folder is not None:
                            folder.write(frame)
                        if bag is not None:
                            bag.write(frame)
                        progress.update(task, advance=1, description=f"seed {settings.seed}, {drive.weather}")
        if folder is not None:
            folder.finish()
    except (OutputFolderError, OSError) as error:
        print(f"Cannot write the drive: {error_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Interrupted; what is in {options.out} is not complete.", file=sys.stderr)
        return 130
    parts = [name for name, there in (("frames", folder is not None), ("bag", both or options.bag)) if there]
    console.print(f"{total} frames, {' and '.join(parts)} in {options.out}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
