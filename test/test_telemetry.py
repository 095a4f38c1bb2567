"""No command sends or writes anything that nobody asked for. Node and demo: `test/ros/test_nothing_is_sent.py`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from watched_process import ROOT, Watched, watch

from ros_ood_perception import telemetry

OURS = ("ros_ood_perception", "training", "sample_drive", "demo", "benchmark")
REPORT = ("onnxruntime", "transformers", "huggingface_hub", "rerun", "ray", "openvino")
MATPLOTLIB = (".cache/matplotlib", ".config/matplotlib")
TRAIN = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from synthetic_camvid import write_camvid
from test_train_segmenter import train
import training.export, training.precisions
folder = Path(sys.argv[1])
assert train(write_camvid(folder / "camvid"), folder, epochs=1) == 0
"""


def check(watched: Watched, folder: Path, *in_home: str) -> None:
    """Nothing was sent to an address, and nothing written but below `folder`, in temporary files and `in_home`."""
    assert watched.done.returncode == 0, watched.done.stderr
    assert watched.addresses == frozenset()
    assert {path for path in watched.in_home if not path.startswith(in_home)} == set()
    # The repository: compiled Python, and git's index when it is asked for the version.
    allowed = (str(folder), "/dev/", str(ROOT))
    assert {path for path in watched.written if not path.startswith(allowed) and "/.git/" not in path} == set()


@pytest.mark.parametrize("before", [None, "", "0", "false"])
@pytest.mark.parametrize("package", OURS)
def test_whatever_the_shell_says_telemetry_is_off_before_anything_else_is_imported(
    package: str, before: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in telemetry.OFF}
    if before is not None:
        environment |= dict.fromkeys(telemetry.OFF, before)
    code = (
        f"import {package}, json, os, sys\n"
        f"assert not {set(REPORT)!r} & set(sys.modules), sorted(sys.modules)\n"
        f"print(json.dumps({{name: os.environ.get(name) for name in {list(telemetry.OFF)!r}}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == dict(telemetry.OFF)


def test_no_launch_file_imports_what_reports_before_it_is_off() -> None:
    late = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in ("launch", "config"):  # tests have it from their conftest.py
            continue
        first: dict[bool, int] = {}
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                if (top := name.split(".")[0]) in (*OURS, *REPORT):
                    reports = top in REPORT
                    first[reports] = min(first.get(reports, 10**9), node.lineno)  # type: ignore[attr-defined]
        if True in first and first.get(False, 10**9) > first[True]:
            late.append(str(path))
    assert late == []


def test_a_replay_sends_nothing_and_writes_nothing_but_its_output(shipped_bundle: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(frames / f"{number}.png"), pixels)
    command = [sys.executable, "-m", "ros_ood_perception.replay", frames, "--bundle", shipped_bundle]
    watched = watch([*command, "--out", tmp_path / "out"], tmp_path)
    check(watched, tmp_path)
    assert (tmp_path / "out" / "summary.json").is_file()


def test_training_with_all_that_an_export_loads_sends_nothing_and_writes_nothing_but_its_output(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the packages of training are not installed")
    paths = [ROOT, ROOT / "test" / "training"]
    watched = watch([sys.executable, "-c", TRAIN, tmp_path, *paths], tmp_path, OMP_NUM_THREADS="1")
    check(watched, tmp_path, *MATPLOTLIB)
    assert (tmp_path / "run" / "best.pt").is_file()
