"""The short form of `python -m benchmark.node`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import ROOT

pytestmark = pytest.mark.alone


def test_the_benchmark_of_the_node_measures_it_beside_its_engine_and_beside_another_checkout(
    brightness_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmark.node", "--bundle", str(brightness_bundle), "--transport", "jpeg"]
    command += ["--size", "120", "160", "--cameras", "2", "--outputs", "semantic/mask", "anomaly/mask"]
    command += ["--seconds", "0.3", "--rounds", "2", "--against", str(ROOT), "--json", str(tmp_path / "node.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    result = json.loads((tmp_path / "node.json").read_text())
    assert result["lost"] == result["other"]["lost"] == 0
    assert 0 < result["engine_ms"]["p50"] < result["latency_ms"]["p50"]
    assert result["added_latency_ms"]["p50"] == result["latency_ms"]["p50"] - result["engine_ms"]["p50"]
    assert result["throughput_ratio"] > 0
    assert result["cpu_ratio"] > 0
    # The same checkout twice.
    assert 0.2 < result["ratio_to_other"]["latency_p50"] < 5
