"""What the shipped bundle says of itself, measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ros_ood_perception.bundle import read_bundle
from training.evaluate import main as evaluate


def test_the_shipped_bundle_has_the_miou_that_it_records(camvid: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    data = f"camvid:{camvid / 'test'}"
    assert evaluate([str(shipped_bundle), "--data", data, "--json", str(result), "--out", str(tmp_path)]) == 0
    measured = json.loads(result.read_text())["sets"]["camvid"]["semantic"]["mIoU"]
    measurements = read_bundle(shipped_bundle).description.training.measurements
    [recorded] = [m.value for m in measurements if m.metric == "mIoU" and "test" in m.data]
    assert measured == pytest.approx(recorded, abs=1e-3)
    assert measured >= 0.60
