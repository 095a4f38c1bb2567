"""The sample drive that the demo plays by default: rendered once, then kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder, OutputFolderError
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from sample_drive.ground_truth import FORMAT, INSTANCE_FOLDER, TRUTH_FILE, VERSION

PROGRAM = "sample_drive"

SECONDS = 30.0
RATE_HZ = 5.0
"""A node on two CPU cores keeps up with it."""
FOLDER = Path("out/sample_drive")
ODOMETRY_TOPIC = "/odometry"
"""Of the drive's bag."""


class DriveRenderingError(PerceptionError, RuntimeError):
    """The drive cannot be rendered. The message says why."""


def rendered_drive(seed: int, say: Callable[[str], None]) -> Path:
    """The folder of the drive with this seed. It is rendered unless it is there.

    Raises:
        DriveRenderingError: it cannot be rendered, or something else is there.
    """
    folder = FOLDER / f"seed_{seed}"
    if _is_that_drive(folder, seed):
        say(f"sample drive: {folder}, rendered before")
        return folder
    if folder.exists() and not (folder / TRUTH_FILE).is_file():
        raise DriveRenderingError(f"{folder}: is there and is not a sample drive; move it away")
    # It gets its name when it is complete, so that an interrupted one is not taken for a drive.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        for old in (folder, unfinished):
            if old.exists():
                drive = OutputFolder(old, PROGRAM)
                drive.read("the sample drive")
                drive.remove("the sample drive")
    except (OutputFolderError, OSError) as error:
        raise DriveRenderingError(str(error)) from error
    say(f"sample drive: rendering {SECONDS:g} s into {folder}")
    # In a process of its own, whose memory is free again before the node starts.
    command = [sys.executable, "-m", "sample_drive", str(unfinished), "--seed", str(seed)]
    command += ["--seconds", str(SECONDS), "--rate", str(RATE_HZ)]
    code = subprocess.run(ends_with_this_process(command), check=False).returncode
    if code:
        raise DriveRenderingError(f"the sample drive cannot be rendered (code {code}); the message above says why")
    unfinished.rename(folder)
    return folder


def _is_that_drive(folder: Path, seed: int) -> bool:
    # Drives of an earlier version lack the pixels of each object, or the odometry.
    if not (folder / BAG_FOLDER).is_dir() or not (folder / INSTANCE_FOLDER).is_dir():
        return False
    try:
        if ODOMETRY_TOPIC not in (folder / BAG_FOLDER / "metadata.yaml").read_text("utf-8"):
            return False
        facts = json.loads((folder / TRUTH_FILE).read_text("utf-8"))
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            return False
        [drive] = facts["drives"]
        settings = drive["settings"]
        return bool((settings["seed"], settings["seconds"], settings["rate_hz"]) == (seed, SECONDS, RATE_HZ))
    except (OSError, ValueError, KeyError, TypeError):
        return False
