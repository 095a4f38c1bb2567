"""What the shipped bundles say of themselves, measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ros_ood_perception.bundle.model_bundle import read_bundle
from sample_drive.__main__ import main as sample_drive
from training.evaluate import main as evaluate

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_bundle_has_the_miou_that_it_records(camvid: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    data = f"camvid:{camvid / 'test'}"
    assert evaluate([str(shipped_bundle), "--data", data, "--json", str(result), "--out", str(tmp_path)]) == 0
    measured = json.loads(result.read_text())["sets"]["camvid"]["semantic"]["mIoU"]
    measurements = read_bundle(shipped_bundle).description.training.measurements
    [recorded] = [m.value for m in measurements if m.metric == "mIoU" and "test" in m.data]
    assert measured == pytest.approx(recorded, abs=1e-3)
    assert measured >= 0.60


def test_the_bundle_of_the_sample_drive_finds_the_unknown_objects_of_a_drive_that_nothing_was_chosen_on(
    tmp_path: Path,
) -> None:
    drive = tmp_path / "test"
    arguments = [str(drive), "--seed", "5000", "--drives", "3", "--seconds", "20", "--rate", "0.2", "--frames"]
    assert sample_drive(arguments) == 0
    result = tmp_path / "result.json"
    bundle = ROOT / "models" / "sample_drive"
    data = f"sample_drive_test:{drive}"
    assert evaluate([str(bundle), "--data", data, "--json", str(result), "--out", str(tmp_path / "out")]) == 0
    measured = json.loads(result.read_text())["sets"]["sample_drive_test"]
    assert measured["exact"]["AP"] >= 0.3
    assert measured["exact"]["FPR95"] <= 0.2
    assert measured["semantic"]["mIoU"] >= 0.55


def test_the_bundle_of_the_sample_drive_was_trained_on_nothing_else_and_is_free_to_use() -> None:
    description = read_bundle(ROOT / "models" / "sample_drive").description
    assert description.training.data_sets == ("sample drives (train)",)
    assert description.weights_licence == "Apache-2.0"
    first, *_, last = description.training.command.split("; ")
    assert "training.train_segmenter" in first
    assert "CHECKPOINT" not in first
    assert "training.train_joint" in last
