"""The demo on a rendered drive: live node, replay of the same bag, figures against the truth, the page that plays."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rosbags.highlevel import AnyReader
from test_demo import demo, player_data

pytest.importorskip("numba", reason="the renderer's packages are not installed")

from sample_drive.__main__ import main as render

FRAMES = 12


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small and slow: its figures are no measure of anything."""
    folder = tmp_path_factory.mktemp("drive") / "drive"
    arguments = ["--seed", "1", "--seconds", "6", "--rate", str(FRAMES / 6), "--size", "320x240", "--jobs", "1"]
    assert render([str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def run(drive: Path, shipped_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    # At a lower threshold most of these frames, which look unlike CamVid's, is one region.
    result = demo(drive, "--bundle", shipped_bundle, "--out", out, "--threshold", "0.9")
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_no_frame_is_lost_and_all_outputs_are_the_replays(run: Path, summary: dict[str, Any]) -> None:
    assert summary["accounting"]["published"] == summary["accounting"]["sent"] == FRAMES
    outputs = ("compared", "semantic_mask", "anomaly_mask", "anomaly_score", "obstacles")
    assert summary["equal_to_replay"] == dict.fromkeys(outputs, FRAMES)
    with AnyReader([run / "bag"]) as reader:
        topic = [c for c in reader.connections if c.topic.endswith("anomaly/obstacles")]
        widths = [reader.deserialize(raw, c.msgtype).width for c, _, raw in reader.messages(topic)]
    assert any(widths), "equal because there are none"


def test_both_know_at_every_frame_where_the_vehicle_was(run: Path) -> None:
    [replayed] = json.loads((run / "replay" / "summary.json").read_text())["cameras"]
    assert (replayed["motion"], replayed["frames_without_motion"]["frames"]) == ("known", 0)
    with AnyReader([run / "bag"]) as reader:
        topic = [c for c in reader.connections if c.topic == "/diagnostics"]
        statuses = [s for c, _, raw in reader.messages(topic) for s in reader.deserialize(raw, c.msgtype).status]
    facts = [{pair.key: pair.value for pair in status.values} for status in statuses]
    assert facts[-1]["motion"] == "known"
    assert not any(fact.get("frames without motion") for fact in facts)


def test_the_figures_are_those_of_evaluate_replay(run: Path, summary: dict[str, Any]) -> None:
    metrics = json.loads((run / "replay" / "metrics.json").read_text())["sets"]["replay"]
    assert summary["metrics"] == metrics
    assert metrics["frames"] == FRAMES
    assert 0 < metrics["exact"]["AP"] < 1
    assert 0 < metrics["semantic"]["mIoU"] < 1


def test_every_object_in_view_is_in_the_table_and_on_the_page(drive: Path, run: Path, summary: dict[str, Any]) -> None:
    truth = json.loads((drive / "ground_truth.json").read_text())["drives"][0]["frames"]
    in_view = {
        str(obstacle["id"]): obstacle["kind"]
        for frame in truth
        for obstacle in frame["obstacles"]
        if obstacle["visible_pixels"] >= 60 and obstacle["range_m"] <= 40
    }
    unknown = summary["unknown_objects"]
    assert {row["id"]: row["kind"] for row in unknown["each"]} == in_view
    assert unknown["objects"] == len(in_view) > 0
    assert (unknown["frames"], unknown["seconds"]) == (FRAMES, 6)
    data = player_data((run / "report.html").read_text())
    [camera] = data["cameras"]
    assert [frame["t"] for frame in camera["frames"]] == [pytest.approx(n / 2, abs=1e-3) for n in range(FRAMES)]
    assert sorted(event["object"] for event in data["events"]) == sorted(in_view)
    for frame, true in zip(camera["frames"], truth, strict=True):
        assert [(o["id"], o["kind"]) for o in frame["objects"]] == [(o["id"], o["kind"]) for o in true["obstacles"]]
    assert data["ground"]["max_range_m"] == 40
    # It opens where most unknown objects are found.
    objects = [sum(known["found"] for known in frame["objects"]) for frame in camera["frames"]]
    assert objects[data["open"]["frame"]] == max(objects)
    assert sum(objects) == sum(row["frames_found"] for row in unknown["each"])


def test_false_obstacles_are_marked_as_such_on_the_page(run: Path, summary: dict[str, Any]) -> None:
    page = (run / "report.html").read_text()
    [camera] = player_data(page)["cameras"]
    obstacles = [obstacle for frame in camera["frames"] for obstacle in frame["obstacles"]]
    assert {obstacle["verdict"] for obstacle in obstacles} <= {"found", "on_object", "false"}
    false = {obstacle["id"] for obstacle in obstacles if obstacle["verdict"] == "false"}
    assert len(false) == summary["unknown_objects"]["false_obstacles"] > 0
    for frame in camera["frames"]:
        is_false = any(obstacle["verdict"] == "false" for obstacle in frame["obstacles"])
        assert bool(frame.get("false_outlines")) <= is_false
    assert any(frame.get("false_outlines") for frame in camera["frames"])
    # On the first screen, above the player.
    first = page.split('id="player"')[0]
    for row in summary["unknown_objects"]["each"]:
        shown = re.search(rf'data-object="{row["id"]}"[^>]*><span>{row["kind"]}</span><b[^>]*>(\d+) %</b>', first)
        assert shown is not None
        assert int(shown[1]) == pytest.approx(100 * row["share_found"], abs=0.51)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_the_page_opens_at_a_frame_in_a_browser(run: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}"]
    options += ["--virtual-time-budget=5000", "--dump-dom", f"file://{run}/report.html#frame=8"]
    page = subprocess.run([BROWSER, *options], capture_output=True, text=True, check=True, timeout=180).stdout
    # Written by the script after it has drawn the frame.
    assert re.search(r'<span id="where">frame 8 · 3.5 s · [0-9.]+ % above the threshold · [0-9]+ ms</span>', page)
    assert re.search(r'<canvas id="above"[^>]* height="[1-9][0-9]+"', page)


def test_the_bag_alone_needs_no_topic_and_has_no_truth(drive: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    result = demo(drive / "bag", "--bundle", shipped_bundle, "--out", tmp_path / "out", "--paced")
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["accounting"]["published"] == FRAMES
    assert "metrics" not in summary
    data = player_data((tmp_path / "out" / "report.html").read_text())
    assert not data["has_truth"]
    # The bag knows where the camera is: obstacles are placed.
    assert all("obstacles" in frame for frame in data["cameras"][0]["frames"])


def test_a_drive_folder_that_is_not_whole_is_named(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "ground_truth.json").write_text("{}")
    result = demo(tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "ground_truth.json: cannot be read (KeyError('format')); render the drive again" in " ".join(
        result.stderr.split()
    )


def test_the_command_without_frames_renders_the_drive_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demo import rendered_drive as module

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SECONDS", 0.4)
    said: list[str] = []
    folder = module.rendered_drive(3, said.append)
    first = (folder / "ground_truth.json").stat().st_mtime_ns
    assert module.rendered_drive(3, said.append) == folder
    assert (folder / "ground_truth.json").stat().st_mtime_ns == first
    assert said[-1].endswith("rendered before")
    # What is not that drive gives way; what is no drive does not.
    monkeypatch.setattr(module, "SECONDS", 0.2)
    module.rendered_drive(3, said.append)
    assert len(json.loads((folder / "ground_truth.json").read_text())["drives"][0]["frames"]) == 1
    (folder / "ground_truth.json").unlink()
    with pytest.raises(module.DriveRenderingError, match="is there and is not a sample drive"):
        module.rendered_drive(3, said.append)


def test_the_demo_imports_neither_torch_nor_the_renderer() -> None:
    code = "import sys, demo.run_demo; assert not {'torch', 'lightning_fabric', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
