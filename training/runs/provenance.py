"""Which code, on which machine: what a record needs to be repeatable."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from ros_ood_perception import __version__


def code_version() -> str:
    """The package's version, with the commit where this is a git checkout, and `dirty` where it was changed."""
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
    """The processor and how many of its cores this process may use, or the GPU."""
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
