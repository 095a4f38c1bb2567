"""Short rows of `python -m benchmark.growth`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_replays_of_two_bags_are_measured_in_one_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.growth", "--what", "bag", "--frames", "5", "25"]
    run = subprocess.run(
        [*command, "--json", str(tmp_path / "growth.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = json.loads((tmp_path / "growth.json").read_text())["bag"]
    assert [row["bag"] for row in rows] == ["5", "25"]
    assert all(row["written, MB"] > 0 and 20 < row["memory, MB"] < 1000 and row["a frame, ms"] > 0 for row in rows)
    assert rows[1]["written, MB"] > rows[0]["written, MB"]
    assert run.stdout.count("| bag |") == 1
