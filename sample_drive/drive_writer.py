"""Renders drives and writes them: frames, bag, truth."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from sample_drive.drive import DriveSettings, SampleDrive
from sample_drive.drive_bag import DriveBag
from sample_drive.frame_folder import FrameFolder


def write_drives(
    out: Path, wanted: Sequence[DriveSettings], *, frames: bool, bag: bool, jobs: int, console: Console
) -> int:
    """Render and write drives; returns the number of frames.

    Args:
        out: folder that gets them.
        frames: write images, labels and masks.
        bag: write the bag.
        jobs: number of threads that render.

    Raises:
        OutputFolderError, OSError: they cannot be written.
    """
    folder = FrameFolder(out) if frames else None
    total = sum(settings.frame_count for settings in wanted)
    with progress_bar(console) as progress:
        task = progress.add_task("first use: compiling the renderer, half a minute", total=total)
        for settings in wanted:
            drive = SampleDrive(settings)
            if folder is not None:
                folder.begin(drive)
            with contextlib.ExitStack() as stack:
                bag_file = stack.enter_context(DriveBag(out / BAG_FOLDER, drive)) if bag else None
                for frame in drive.frames(jobs):
                    if folder is not None:
                        folder.write(frame)
                    if bag_file is not None:
                        bag_file.write(frame)
                    progress.update(task, advance=1, description=f"seed {settings.seed}, {drive.weather}")
    if folder is not None:
        folder.finish()
    return total
