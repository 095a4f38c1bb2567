"""The short form of `python -m benchmark.soak --minutes 30`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import ROOT

MINUTES = 2.0
MAX_MB_PER_10_MINUTES = 25.0
"""Of the second minute; in the first the allocator settles. One more buffer of 0.9 MB half-way, which is a step and no
leak, is a slope of up to 14; a leaked 480x640 frame at each start of a camera would be 27, one a second 550."""


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
