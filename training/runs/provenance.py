"""The version of the code and the machine, for records of results."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from ros_ood_perception import __version__


def code_version() -> str:
    """The package's version; in a git checkout also the commit, with `dirty` if files were changed."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}+{described.stdout.strip()}"


def machine() -> str:
    """The GPU, or the processor and the number of its cores that this process may use."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{len(os.sched_getaffinity(0))} cores of {model}"
