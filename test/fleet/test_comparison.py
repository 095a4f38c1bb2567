"""Two bundles over a fleet: the figures are those of a replay's comparison, by recording, place, hour and class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from mined_rows import failed, frame, obstacle, recording, write_tables
from onnx import numpy_helper
from recorded_drive import STEP_NS, write_drive

from fleet.compare import main as compare
from fleet.comparison.changes import change_batches
from fleet.comparison.groups import Cells, hour_name
from fleet.mine.settings import MineSettings
from fleet.mine.worker import Worker
from fleet.select import main as select
from ros_ood_perception.bundle.model_bundle import read_bundle, write_bundle
from ros_ood_perception.replay.command_line.main import main as replay
from ros_ood_perception.replay.comparison.__main__ import main as replay_comparison

OPTIONS = ("--threads", "1", "--set", "region.min_area=0.0", "--set", "region.drivable_classes=['*']")
FRAMES = 5


@pytest.fixture(scope="module")
def other_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` with other weights in the layer that gives the classes."""
    read = read_bundle(bundle)
    model = onnx.load_from_string(read.model)
    (reader,) = [node for node in model.graph.node if "logits" in node.output]
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == reader.input[1]]
    values = numpy_helper.to_array(weights)
    noise = np.random.default_rng(0).normal(0, 0.3 * values.std(), values.shape)
    weights.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), weights.name))
    folder = tmp_path_factory.mktemp("bundle") / "other"
    write_bundle(folder, read.description, model.SerializeToString())
    return folder


def mined(out: Path, bundle: Path, bags: list[Path]) -> Path:
    """Tables as a worker of `fleet.mine` writes them."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    worker = Worker(MineSettings(str(out), files, replay_options=OPTIONS))
    try:
        for bag in bags:
            worker.mine(str(bag))
    finally:
        worker.close()
    return out


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path, other_bundle: Path
) -> tuple[Path, Path, Path, dict[str, Any]]:
    """Tables with both bundles of one drive, the drive, and what a comparison of its replays says."""
    folder = tmp_path_factory.mktemp("runs")
    bag = write_drive(folder / "drive", FRAMES)
    outputs = "semantic_mask,anomaly_mask,anomaly_score,obstacle_detections"
    for name, model in (("old", bundle), ("new", other_bundle)):
        options = [*OPTIONS, "--set", "score_encoding=32FC1", "--outputs", outputs, "--compression", "none"]
        assert replay([str(bag), "--bundle", str(model), "--out", str(folder / f"replay_{name}"), *options]) == 0
    new, old = (str(folder / f"replay_{name}") for name in ("new", "old"))
    assert replay_comparison([new, old, "--out", str(folder / "comparison")]) == 0
    figures = json.loads((folder / "comparison" / "comparison.json").read_text())
    return mined(folder / "old", bundle, [bag]), mined(folder / "new", other_bundle, [bag]), bag, figures


def test_the_figures_are_those_of_a_comparison_of_replays(
    runs: tuple[Path, Path, Path, dict[str, Any]], bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    old, new, bag, expected = runs
    bundles = ["--old-bundle", str(bundle), "--new-bundle", str(other_bundle), "--threads", "1"]
    assert compare([str(old), str(new), "--out", str(tmp_path / "out"), *bundles]) == 0
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text())
    # The two differ, or the test would say nothing.
    assert expected["class_agreement"] < 0.99
    assert expected["anomaly_iou"] < 1
    for entry in (facts["fleet"], facts["groups"]["recording"][0], facts["groups"]["hour"][0]):
        for name in ("frames", "frames_missing", "obstacles_gained", "obstacles_lost"):
            assert entry[name] == expected[name], name
        for name in ("class_agreement", "class_iou", "anomaly_iou", "score_difference", "largest_score_difference"):
            assert entry[name] == pytest.approx(expected[name], abs=1e-6), name
        assert entry["iou_by_class"] == pytest.approx(expected["iou_by_class"], abs=1e-9)
    assert [entry["name"] for entry in facts["groups"]["recording"]] == [str(bag)]
    assert {of["setting"] for of in facts["settings"]} >= {"model_sha256"}
    worst = facts["worst_frames"][0]
    assert worst["changed"] == pytest.approx(expected["worst_frames"][0]["changed"])
    assert worst["stamp_ns"] == expected["worst_frames"][0]["stamp_ns"]
    picture = cv2.imread(str(tmp_path / "out" / worst["picture"]))[..., ::-1].reshape(-1, 3)
    shown = {tuple(colour) for colour in np.unique(picture, axis=0).tolist()}
    assert len(shown & {known.colour for known in read_bundle(bundle).description.classes}) >= 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert str(bag) in page
    assert "data:image/png;base64," in page


def test_frames_that_changed_most_are_selected_for_labelling(
    runs: tuple[Path, Path, Path, dict[str, Any]], bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    old, new, _, _ = runs
    bundles = ["--old-bundle", str(bundle), "--new-bundle", str(other_bundle), "--threads", "1"]
    assert compare([str(old), str(new), "--out", str(tmp_path / "out"), *bundles, "--every", "2"]) == 0
    rows = next(iter(change_batches(tmp_path / "out"))).to_pylist()
    assert [row["pixels"] is not None for row in rows] == [True, False, True, False, True]
    options = ["--evidence", "disagreement", "--bundle", str(other_bundle), "--threads", "1", "--frames", "1"]
    assert select([str(new), *options, "--out", str(tmp_path / "a")]) == 2
    options += ["--comparison", str(tmp_path / "out"), "--out", str(tmp_path / "b")]
    assert select([str(new), *options]) == 0
    (chosen,) = json.loads((tmp_path / "b" / "selection.json").read_text())["frames"]
    most = max((row for row in rows if row["changed"] is not None), key=lambda row: row["changed"])
    assert (chosen["number"], chosen["evidence"]) == (most["number"], pytest.approx(most["changed"]))


@pytest.fixture
def pair(tmp_path: Path, bundle: Path) -> tuple[Path, Path]:
    """Tables of two places: in the first the new bundle loses an obstacle of three, in the second none of one."""
    boxes = [(0, 0, 10, 10), (20, 0, 10, 10), (40, 0, 10, 10)]
    near: dict[str, Any]
    far: dict[str, Any]
    near, far = {"latitude": 48.0, "longitude": 11.0}, {"latitude": 48.1, "longitude": 11.0}
    frames = [frame("a", number, **(near if number < 3 else far)) for number in range(4)]
    before = [obstacle("a", number, boxes[number]) for number in range(3)] + [obstacle("a", 3, boxes[0])]
    now = [found for found in before if found["number"] != 1] + [obstacle("a", 3, (60, 60, 5, 5))]
    old_row, new_row = recording("a", bundle), recording("a", bundle, threshold=0.6)
    old = write_tables(tmp_path / "old", [old_row], frames, before)
    new = write_tables(tmp_path / "new", [new_row, failed("b", "damaged")], frames, now)
    return old, new


def test_places_are_told_apart_and_the_worst_is_first(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    assert compare([str(old), str(new), "--out", str(tmp_path / "out"), "--least-frames", "1"]) == 0
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (facts["fleet"]["obstacles_lost"], facts["fleet"]["obstacles_gained"]) == (1, 1)
    places = [
        (entry["frames"], entry["obstacles_lost"], entry["obstacles_gained"]) for entry in facts["groups"]["place"]
    ]
    assert places == [(3, 1, 0), (1, 0, 1)]
    assert facts["fleet"]["class_agreement"] is None


@pytest.mark.parametrize(
    ("limits", "code", "text"),
    [
        (["--max-obstacles-lost", "1"], 0, None),
        (["--max-obstacles-lost", "0"], 1, "--max-obstacles-lost is 0, but the value is 1"),
        (["--max-obstacles-lost-share", "0.25"], 0, None),
        (["--max-obstacles-lost-share", "0.25", "--everywhere"], 1, "place 47.999"),
        (["--max-obstacles-lost-share", "0.25", "--everywhere", "--least-frames", "50"], 0, None),
        (["--min-class-agreement", "0.5"], 1, "cannot be checked: give --old-bundle and --new-bundle"),
    ],
)
def test_the_exit_code_says_whether_the_limits_are_met(
    pair: tuple[Path, Path], tmp_path: Path, limits: list[str], code: int, text: str | None
) -> None:
    old, new = pair
    small = [] if "--least-frames" in limits else ["--least-frames", "1"]
    assert compare([str(old), str(new), "--out", str(tmp_path / "out"), *limits, *small]) == code
    broken = json.loads((tmp_path / "out" / "comparison.json").read_text())["limits_broken"]
    assert bool(broken) == bool(code)
    assert text is None or any(text in found for found in broken)


def test_what_only_one_side_has_is_missing_and_named(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [frame("a", 0), frame("a", 1), frame("b", 0)]
    lost = [frame("a", 0), frame("a", 1, fate="failed", obstacles=None)]
    rows = [recording(name, bundle) for name in "ab"]
    old = write_tables(tmp_path / "old", rows, whole)
    new = write_tables(tmp_path / "new", [rows[0], failed("b", "killed 2 workers")], lost)
    assert compare([str(old), str(new), "--out", str(tmp_path / "out")]) == 1
    assert "b: NEW says that it failed: killed 2 workers" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (facts["fleet"]["frames"], facts["fleet"]["frames_missing"]) == (1, 2)


def test_bad_input_is_refused_before_anything_is_written(
    pair: tuple[Path, Path], tmp_path: Path, bundle: Path, shipped_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = map(str, pair)
    out = ["--out", str(tmp_path / "out")]
    assert compare([old, new, *out, "--old-bundle", str(bundle)]) == 2
    assert "need --old-bundle and --new-bundle" in capsys.readouterr().err
    assert compare([old, new, *out, "--old-bundle", str(bundle), "--new-bundle", str(shipped_bundle)]) == 2
    assert "is not the bundle" in capsys.readouterr().err
    other = write_tables(tmp_path / "other", [recording("z", bundle)], [frame("z", 0)])
    assert compare([old, str(other), *out]) == 2
    assert "no recording in common" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_hours_and_places_need_a_clock_and_a_position() -> None:
    assert hour_name(5 * STEP_NS, 0.0) is None
    assert Cells("latitude").name(None, None, 1.0, 2.0) is None
    assert Cells("none").name(48.0, 11.0, 1.0, 2.0) is None
    near, same, far = (Cells("latitude", 100.0).name(48.0, east, None, None) for east in (11.0, 11.0001, 11.01))
    assert near == same != far
