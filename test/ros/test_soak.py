"""The short form of `python -m benchmark.soak --minutes 30`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import ROOT

MINUTES = 1.0
MAX_MB_PER_10_MINUTES = 60.0
"""In its first minute the allocator still settles (4 MB of about 210): a leaked 480x640 frame a second would be 550."""


def test_under_load_with_cameras_that_crash_nothing_leaks_and_every_sum_is_exact(
    brightness_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmark.soak", "--minutes", str(MINUTES), "--bundle", str(brightness_bundle)]
    command += ["--max-growth", str(MAX_MB_PER_10_MINUTES), "--json", str(tmp_path / "soak.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["problems"] == []
    assert result["published"] > 100
