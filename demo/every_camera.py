"""Shows every camera of a bag with several: the live node plays one of them, a replay all."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from demo.demo_input import DemoError, DemoInput
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.shown_text import printable

CAMERAS_FOLDER = "cameras"
CAMERAS_REPORT = f"{CAMERAS_FOLDER}/report.html"
"""Below the folder of the run."""
DAMAGED = 1
"""Exit code of a replay with problems, which its report names."""


def replay_every_camera(options: argparse.Namespace, played: DemoInput, bundle: Bundle, console: Console) -> None:
    """Replay all cameras of the bag, with a report, in a process of its own.

    Raises:
        DemoError: the replay failed.
    """
    out: Path = options.out
    command = [sys.executable, "-m", "ros_ood_perception.replay", str(played.path), "--bundle", str(bundle.folder)]
    command += ["--out", str(out / CAMERAS_FOLDER), "--report", str(out / CAMERAS_REPORT)]
    command += ["--engine", options.engine, "--threads", str(options.threads)]
    if options.threshold is not None:
        command += ["--set", f"anomaly_threshold={float(options.threshold)}"]
    others = printable(", ".join(played.frames.other_cameras))
    console.print(f"replaying all cameras, also {others}, for {out / CAMERAS_REPORT}", markup=False, soft_wrap=True)
    code = subprocess.run(ends_with_this_process(command), check=False).returncode
    if code not in (0, DAMAGED):
        raise DemoError(f"the replay of all cameras ended with code {code}; the message above says why")
