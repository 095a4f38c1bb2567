"""What a worker writes of a recording: the rows that a replay gives, whole or in parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (requirements/fleet.txt)")

from moving_lights import HEIGHT, WIDTH, mine_settings, picture, write_lights
from recorded_drive import START_NS, STEP_NS, camera_info, image, static_transforms, write_bag

from fleet.mine.recording.parts import PartPlan
from fleet.mine.worker import PART, Outcome, Worker
from fleet.storage.place import open_place
from fleet.tables.files import read_table, table_bytes
from fleet.tables.schema import DONE, FAILED, FRAMES, OBSTACLES, RECORDINGS, TABLES, TIMINGS
from ros_ood_perception.replay.command_line.main import main as replay


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(open_place(str(out)), table).to_pylist()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    worker = Worker(mine_settings(folder, str(folder / "out")))
    yield worker
    worker.close()


def test_a_recording_has_the_digests_and_the_account_of_its_replay(folder: Path, tmp_path: Path) -> None:
    outputs = "anomaly_score,obstacles,obstacle_detections"
    drive = write_lights(tmp_path / "drive", 12)
    worker = Worker(mine_settings(folder, str(tmp_path / "out"), 0.0, "--outputs", outputs, outputs=True))
    assert worker.mine(str(drive)).state == DONE
    worker.close()
    arguments = [str(drive), "--bundle", str(folder / "bundle"), "--outputs", outputs, "--threads", "1"]
    assert replay([*arguments, "--out", str(tmp_path / "replay")]) == 0
    summary = json.loads((tmp_path / "replay" / "summary.json").read_text())
    (row,) = rows(tmp_path / "out", RECORDINGS.name)
    assert row["outputs"] == [{"topic": topic, **facts} for topic, facts in summary["topics"].items()]
    assert len(row["outputs"]) == 4
    (camera,) = row["cameras"]
    assert {name: camera[name] for name in summary["cameras"][0]["accounting"]} == summary["cameras"][0]["accounting"]
    assert (row["frames"], row["damage"], row["problems"]) == (12, [], [])


def test_input_sizes_that_are_left_out_are_left_out_in_the_worker_too(
    bundle_of_two_sizes: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle_of_two_sizes, tmp_path / "bundle")
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        cv2.imwrite(str(images / f"{number}.png"), np.full((80, 200, 3), 60 * number, np.uint8))
    worker = Worker(mine_settings(tmp_path, str(tmp_path / "out"), 0.0, "--set", "max_input_height=63"))
    try:
        assert worker.mine(str(images)).state == DONE
    finally:
        worker.close()
    assert [row["fate"] for row in rows(tmp_path / "out", FRAMES.name)] == ["published"] * 3


def test_every_frame_has_a_row_also_where_it_has_no_result(worker: Worker, folder: Path, tmp_path: Path) -> None:
    broken = image(2, picture(2, 0, 6))
    broken.height = 3 * HEIGHT
    frames = [image(number, picture(number, 0, 6)) for number in range(5)]
    frames[2] = broken
    infos = [camera_info(number, HEIGHT, WIDTH) for number in range(5)]
    topics = {"/tf_static": [static_transforms()], "/front/camera_info": infos, "/front/image_raw": frames}
    name = str(write_bag(tmp_path / "drive", topics))
    assert worker.mine(name).frames == 5
    found = [row for row in rows(folder / "out", FRAMES.name) if row["recording"] == name]
    assert [row["fate"] for row in found] == ["published", "published", "malformed", "published", "published"]
    assert [row["stamp_ns"] for row in found] == [START_NS + number * STEP_NS for number in range(5)]
    assert "/front/image_raw #2" in str(found[2]["problem"])
    assert found[2]["sha256"] is None
    assert found[3]["obstacles"] == 1
    obstacles = [row for row in rows(folder / "out", OBSTACLES.name) if row["recording"] == name]
    assert len(obstacles) == sum(int(row["obstacles"] or 0) for row in found)
    assert all(row["score_peak"] == pytest.approx(200 / 253, abs=1e-3) for row in obstacles)
    (row,) = [row for row in rows(folder / "out", RECORDINGS.name) if row["recording"] == name]
    assert row["problems"] != []


def test_the_columns_of_a_frame_are_measured_on_what_the_network_gave(
    worker: Worker, folder: Path, tmp_path: Path
) -> None:
    """The bundle's score is the brightness, and all is road."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:30] = 253
    name = str(write_bag(tmp_path / "drive", {"/front/image_raw": [image(0, pixels)]}))
    worker.mine(name)
    (row,) = [row for row in rows(folder / "out", FRAMES.name) if row["recording"] == name]
    assert (row["width"], row["height"]) == (160, 120)
    assert row["anomaly_share"] == row["road_anomaly_share"] == 0.25
    assert (row["road_share"], row["class_shares"]) == (1.0, [1.0, 0.0])
    assert row["score_peak"] == pytest.approx(1.0)
    assert row["score_mean"] == pytest.approx(0.25)
    assert row["known_score_mean"] == 0.0
    assert (row["latitude"], row["x"]) == (None, None)


def test_what_cannot_be_read_is_a_failed_recording_with_the_reason(
    worker: Worker, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.mcap").write_bytes(b"no bag")
    for name, reason in ((tmp_path / "empty.mcap", "empty.mcap"), (tmp_path / "nowhere", "nowhere")):
        outcome = worker.mine(str(name))
        assert (outcome.state, reason in outcome.reason) == (FAILED, True)
        (row,) = [row for row in rows(folder / "out", RECORDINGS.name) if row["recording"] == str(name)]
        assert (row["state"], row["reason"], row["frames"]) == (FAILED, outcome.reason, None)


def test_a_recording_that_needs_more_memory_than_allowed_has_failed(folder: Path, tmp_path: Path) -> None:
    settings = mine_settings(folder, str(tmp_path / "out"))
    worker = Worker(type(settings)(**{**vars(settings), "memory_bytes": 1_000_000}))
    outcome = worker.mine(str(write_lights(tmp_path / "drive", 3)))
    worker.close()
    assert outcome.state == FAILED
    assert "--memory-per-task" in outcome.reason


def in_parts(worker: Worker, name: str, cuts: Sequence[int], frames: int, overlap: int) -> Outcome:
    """Mine a recording in parts that begin at these frames."""
    plan = PartPlan(tuple(START_NS + number * STEP_NS - STEP_NS // 2 for number in cuts), frames)
    for number in reversed(range(plan.count)):
        assert worker.mine_part(name, plan, number, overlap * STEP_NS / 1e9).state == PART
    return worker.join(name, plan)


@pytest.mark.parametrize(("overlap", "life"), [(0, 6), (12, 6), (12, 200)])
def test_the_parts_of_a_recording_give_the_tables_of_the_whole(
    worker: Worker, folder: Path, tmp_path: Path, overlap: int, life: int
) -> None:
    """Without overlap, and where something is followed for longer than it, parts are replayed again."""
    name = str(write_lights(tmp_path / "drive", 48, seed=overlap, life=life))
    assert worker.mine(name).note == ""
    whole = {table.name: read_table(open_place(str(folder / "out")), table.name) for table in TABLES}
    outcome = in_parts(worker, name, (14, 23, 31, 40), 48, overlap)
    assert outcome.obstacles > 20
    again = "" if (overlap, life) == (12, 6) else ", 4 of them replayed again"
    assert outcome.note == f"joined from 5 parts{again}"
    for table in TABLES:
        found = read_table(open_place(str(folder / "out")), table.name)
        if table.is_repeatable:
            assert table_bytes(found) == table_bytes(whole[table.name]), table.name
        assert found.num_rows == whole[table.name].num_rows
    assert not (folder / "out" / "unfinished").exists() or not list((folder / "out" / "unfinished").iterdir())
    assert whole[TIMINGS.name].num_rows == whole[FRAMES.name].num_rows


@pytest.mark.parametrize("fault", ["calibration", "stamp", "count"])
def test_a_recording_whose_parts_may_differ_from_it_is_replayed_whole(
    worker: Worker, folder: Path, tmp_path: Path, fault: str
) -> None:
    frames = [image(number, picture(number, 1, 6)) for number in range(30)]
    infos = [camera_info(number, HEIGHT, WIDTH) for number in range(30)]
    if fault == "calibration":
        infos[20].k[0] = 120.0
    if fault == "stamp":
        frames[25].header = frames[24].header
    topics = {"/tf_static": [static_transforms()], "/front/camera_info": infos, "/front/image_raw": frames}
    name = str(write_bag(tmp_path / "drive", topics))
    worker.mine(name)
    whole = {table.name: read_table(open_place(str(folder / "out")), table.name) for table in TABLES}
    outcome = in_parts(worker, name, (14,), 31 if fault == "count" else 30, 8)
    reasons = {
        "calibration": "its calibration changes",
        "stamp": "it has stamps that are 0 or go back",
        "count": "its parts do not hold as many frames as it announces",
    }
    assert outcome.note == f"replayed as a whole: {reasons[fault]}"
    for table in (FRAMES, OBSTACLES, RECORDINGS):
        assert table_bytes(read_table(open_place(str(folder / "out")), table.name)) == table_bytes(whole[table.name])


def test_a_part_that_is_there_is_not_replayed_again(worker: Worker, tmp_path: Path, folder: Path) -> None:
    name = str(write_lights(tmp_path / "drive", 24))
    plan = PartPlan((START_NS + 12 * STEP_NS,), 24)
    worker.mine_part(name, plan, 1, 1.0)
    (kept,) = (folder / "out" / "unfinished").glob("*/1/frames.parquet")
    written = kept.stat().st_mtime_ns
    worker.mine_part(name, plan, 1, 1.0)
    assert kept.stat().st_mtime_ns == written
    worker.mine_part(name, PartPlan((START_NS + 11 * STEP_NS,), 24), 1, 1.0)
    assert kept.stat().st_mtime_ns > written
    worker.fail(name, "for this test")
    assert not kept.exists()
