"""The short form of `python -m benchmark.soak --minutes 30`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import ROOT

MINUTES = 2.0
MAX_MB_PER_10_MINUTES = 250.0
"""Of the second minute, in which allocator and middleware still take steps: 22 and above 25 were measured with no leak,
and 129, a single step of 8 MB, on Jazzy. A frame of 480x640 leaked once a second would be 550. What is slower only the
30 minutes tell."""


def test_under_load_with_cameras_that_crash_nothing_leaks_and_every_sum_is_exact(
    brightness_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmark.soak", "--minutes", str(MINUTES), "--bundle", str(brightness_bundle)]
    command += ["--max-growth", str(MAX_MB_PER_10_MINUTES), "--json", str(tmp_path / "soak.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["problems"] == []
    assert result["published"] > 30
