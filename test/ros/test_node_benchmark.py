"""The short form of `python -m benchmark.node`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import ROOT

pytestmark = pytest.mark.alone


def test_the_benchmark_of_the_node_measures_it_beside_its_engine_another_checkout_and_a_plain_node(
    brightness_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmark.node", "--bundle", str(brightness_bundle), "--transport", "jpeg"]
    command += ["--size", "120", "160", "--cameras", "2", "--outputs", "semantic/mask", "anomaly/mask"]
    command += ["--seconds", "0.3", "--rounds", "2", "--against", str(ROOT), "--json", str(tmp_path / "node.json")]
    command += ["--plain", "--threads", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    result = json.loads((tmp_path / "node.json").read_text())
    assert result["lost"] == result["other"]["lost"] == 0
    assert 0 < result["engine_ms"]["p50"] < result["latency_ms"]["p50"]
    assert result["added_latency_ms"]["p50"] == result["latency_ms"]["p50"] - result["engine_ms"]["p50"]
    assert result["throughput_ratio"] > 0
    assert 0 < result["possible_throughput_ratio"] <= 1
    assert result["saturated_node_cpu_s_a_frame"] > 0
    assert result["saturated_bench_cpu_s_a_frame"] > 0
    assert result["cpu_ratio"] > 0
    assert result["cpu_s_a_frame"] > 0
    assert 0 < result["memory_mb"]["resident"] <= result["memory_mb"]["peak"]
    assert {"wait", "conversion", "inference", "publish", "age"} < set(result["stages_ms"])
    path = result["path_ms"]
    assert sum(path.values()) == pytest.approx(result["latency_ms"]["p50"], rel=0.5)
    assert all(path[part] > 0 for part in ("from publish to the node", "conversion", "engine alone", "publish"))
    assert result["plain"]["lost"] == 0
    assert result["plain_overhead_divided_by"] == pytest.approx(
        result["plain"]["added_latency_ms"]["p50"] / result["added_latency_ms"]["p50"]
    )
    for goal in ("at least 0.97", "at most 3", "at most 8", "at least 3.0"):
        assert f"goal: {goal}\n" in run.stdout
    # The same checkout twice.
    assert 0.2 < result["ratio_to_other"]["latency_p50"] < 5


def test_a_wrong_output_is_named_with_those_that_there_are() -> None:
    command = [sys.executable, "-m", "benchmark.node", "--outputs", "semantic/masks"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 2
    assert "semantic/masks: there are semantic/mask, " in run.stderr


def test_the_start_of_the_node_is_measured_by_stages(brightness_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.start_up", "--bundle", str(brightness_bundle), "--rounds", "1"]
    command += ["--size", "120", "160", "--json", str(tmp_path / "start.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode in (0, 1), run.stdout + run.stderr[-2000:]
    found = json.loads((tmp_path / "start.json").read_text())["medians"]
    stages = ["interpreter", "imports", "node", "configure", "activate", "first mask"]
    assert list(found) == [*stages, "total", "cpu"]
    assert sum(found[stage] for stage in stages) == pytest.approx(found["total"])
    assert run.returncode == (1 if found["total"] > 3 else 0)
