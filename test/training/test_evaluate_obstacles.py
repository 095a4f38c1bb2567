"""The command on a replay whose obstacles are known to the pixel: bright blocks, which the bundle takes for anomalies.

The camera looks level from 1.5 m above `base_link`, with a focal length of 100 pixels. So row v shows ground
150 / (v - 60) m ahead.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brightness_bundle import write_brightness_bundle
from recorded_drive import START_NS, STEP_NS, camera_info, image, static_transforms, write_bag
from test_obstacle_distance import transforms

from ros_ood_perception.replay.command_line.main import main as replay
from training.evaluate_obstacles.__main__ import main as evaluate_obstacles
from training.evaluate_replay import main as evaluate_replay
from training.metrics.obstacles.truth_file import FORMAT

FRAMES = 10
SIZE = (120, 160)
PALLET, MARKING = (slice(60, 76), slice(70, 90)), (slice(90, 100), slice(20, 30))
"""The pallet's foot is at row 75, 9.7 m ahead. The marking is no object. It is bright in the frames 4 to 6."""


def frame(number: int) -> np.ndarray:
    pixels = np.full((*SIZE, 3), 20, np.uint8)
    # The pallet is not marked in the first two frames.
    pixels[PALLET] = 250 if number >= 2 else 60
    if 4 <= number <= 6:
        pixels[MARKING] = 200
    return pixels


@pytest.fixture(scope="module")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("bundle") / "brightness")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two metres a frame: 20 m in the second that the drive lasts, of which the last tenth has no place any more."""
    topics: dict[str, Any] = {
        "/tf_static": [static_transforms()],
        "/tf": [transforms(number, ("map", "base_link", 2.0 * number, 0.0)) for number in range(FRAMES)],
        "/front/camera_info": [camera_info(number, *SIZE) for number in range(FRAMES)],
        "/front/image_raw": [image(number, frame(number)) for number in range(FRAMES)],
    }
    return write_bag(tmp_path_factory.mktemp("drive") / "bag", topics)


@pytest.fixture(scope="module")
def replayed(drive: Path, brightness: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "out"
    options = ["--set", "persistence.seen_frames=1", "--set", "persistence.of_frames=1"]
    assert replay([str(drive), "--bundle", str(brightness), "--out", str(out), *options]) == 0
    return out


def stamp(number: int) -> int:
    return START_NS + number * STEP_NS


def truth_of(path: Path, numbers: range = range(FRAMES), **changed: Any) -> Path:
    box = [PALLET[1].start, PALLET[0].start, 20, 16]
    pallet = {"id": "1", "kind": "pallet", "box": box, "footprint": [[9.7, -1], [9.7, 1], [10.9, 1], [10.9, -1]]}
    pallet |= changed
    pallet = {key: value for key, value in pallet.items() if value is not None}
    frames = [{"stamp_ns": stamp(number), "objects": [pallet]} for number in numbers]
    path.write_text(json.dumps({"format": FORMAT, "version": 1, "frames": frames}))
    return path


def measured(replayed: Path, truth: Path, *options: str, code: int = 0) -> dict[str, Any]:
    out = truth.with_name("figures.json")
    assert evaluate_obstacles([str(replayed), "--truth", str(truth), "--json", str(out), *options]) == code
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_the_figures_of_a_known_drive(replayed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(replayed, truth_of(tmp_path / "truth.json"))
    assert (found["objects"], found["found"], found["missed"], found["frames_in_view"]) == (1, 1, [], 10)
    [pallet] = found["each"]
    assert (pallet["frames_in_view"], pallet["frames_marked"], pallet["frames_found"]) == (10, 8, 8)
    assert pallet["first_found_m"] == pytest.approx(9.7)
    assert pallet["seconds_until_found"] == pytest.approx(0.2)
    assert pallet["seconds_found_before_leaving_view"] == pytest.approx(0.7)
    assert pallet["score"] == pytest.approx(250 / 253, abs=0.02)
    assert found["placement_error_m"]["median"] < 0.3
    assert (found["frames"], found["seconds"]) == (10, pytest.approx(1.0))
    assert (found["false_obstacles"], found["false_obstacles_per_minute"]) == (1, pytest.approx(60))
    assert found["share_of_frames_with_a_false_obstacle"] == pytest.approx(0.3)
    assert found["kilometres"] == pytest.approx(0.018)
    assert found["false_obstacles_per_kilometre"] == pytest.approx(1 / 0.018)
    # Above the marking's score there is no false obstacle, and the pallet is still found.
    at = {row["false_obstacles_per_minute"]: row for row in found["froc"]["at_rates"]}
    assert at[0.1]["share_found"] == 1.0
    assert at[0.1]["threshold"] == pytest.approx(250 / 253, abs=1e-6)
    assert at[100.0]["threshold"] == pytest.approx(200 / 253, abs=1e-6)
    shown = capsys.readouterr().out
    for text in ("1 of 1", "pallet 1", "8 (80 %)", "60.0", "10 frames, 1.0 s, 0.018 km"):
        assert text in shown


def test_the_report_shows_each_false_obstacle_and_what_it_lies_on(replayed: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    found = measured(replayed, truth_of(tmp_path / "truth.json"), "--report", str(report))
    assert found["causes"] == [{"cause": "on road", "false_obstacles": 1, "frames": 3}]
    page = report.read_text()
    assert page.count("the place of the false obstacle") == 1
    for text in ("1 of 1", "on road", "3 frames", "pallet 1", "FROC curve", "classes are those that the network saw"):
        assert text in page


def test_where_nothing_unknown_lies_every_obstacle_is_false(
    replayed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    assert evaluate_obstacles([str(replayed), "--nothing-unknown", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["objects"], found["false_obstacles"], found["frames"]) == (0, 2, 10)
    assert sum(row["frames"] for row in found["causes"]) == 11
    with pytest.raises(SystemExit):
        evaluate_obstacles([str(replayed), "--nothing-unknown", "--truth", "truth.json"])
    assert "exclude each other" in capsys.readouterr().err


def test_only_frames_of_the_truth_are_measured_and_what_is_left_out_is_said(
    replayed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(replayed, truth_of(tmp_path / "truth.json", range(7, 12)))
    assert (found["frames"], found["seconds"], found["false_obstacles"]) == (3, pytest.approx(0.3), 0)
    assert found["share_of_frames_found"] == 1.0
    said = " ".join(capsys.readouterr().err.split())
    assert "7 frames are not in the truth, and not measured" in said
    assert "truth.json: 2 frames of the truth have no results" in said


def test_an_object_elsewhere_is_not_found_by_the_obstacle_that_stands_here(replayed: Path, tmp_path: Path) -> None:
    far = truth_of(tmp_path / "truth.json", footprint=[[20.0, 0.0]])
    found = measured(replayed, far)
    # Its pixels are marked and touched, but no obstacle stands 20 m ahead.
    assert (found["found"], found["each"][0]["frames_touched"], found["false_obstacles"]) == (0, 8, 1)
    elsewhere = truth_of(tmp_path / "truth.json", box=[130, 20, 20, 16])
    found = measured(replayed, elsewhere)
    # An obstacle stands at its place, but no pixel of it is marked: the pallet's obstacle is a false one.
    assert (found["found"], found["each"][0]["frames_marked"], found["false_obstacles"]) == (0, 0, 2)


def test_boxes_alone_and_places_alone_are_measured_by_what_there_is(replayed: Path, tmp_path: Path) -> None:
    boxes = measured(replayed, truth_of(tmp_path / "boxes.json", footprint=None))
    assert (boxes["each"][0]["frames_found"], boxes["first_found_m"]) == (8, None)
    assert boxes["placement_error_m"] == {"median": None, "p95": None}
    places = measured(replayed, truth_of(tmp_path / "places.json", box=None))
    assert (places["each"][0]["frames_found"], places["each"][0]["frames_marked"]) == (8, 0)
    assert places["false_obstacles"] == 1


def test_two_drives_are_added_up(replayed: Path, tmp_path: Path) -> None:
    truth = truth_of(tmp_path / "truth.json")
    found = measured(replayed, truth, str(replayed), "--truth", str(truth))
    assert (found["objects"], found["false_obstacles"], found["seconds"]) == (2, 2, pytest.approx(2.0))
    assert found["froc"]["resampled"] == "2 drives"
    assert len(found["drives"]) == 2


def test_each_camera_is_measured_by_its_name(brightness: Path, tmp_path: Path) -> None:
    topics: dict[str, Any] = {"/tf_static": [static_transforms()]}
    for name in ("front", "rear"):
        topics[f"/{name}/camera_info"] = [camera_info(number, *SIZE) for number in range(4)]
        shown = [frame(number + 2) if name == "front" else np.full_like(frame(0), 20) for number in range(4)]
        topics[f"/{name}/image_raw"] = [image(number, pixels) for number, pixels in enumerate(shown)]
    bag, out = write_bag(tmp_path / "bag", topics), tmp_path / "out"
    options = ["--set", "persistence.seen_frames=1", "--set", "persistence.of_frames=1"]
    assert replay([str(bag), "--bundle", str(brightness), "--out", str(out), *options]) == 0
    truth = truth_of(tmp_path / "truth.json", range(4))
    data = json.loads(truth.read_text())
    data["frames"] = [{**one, "camera": name} for one in data["frames"] for name in ("front", "rear")]
    truth.write_text(json.dumps(data))
    found = measured(out, truth)
    assert [(row["camera"], row["frames_found"], row["frames_in_view"]) for row in found["each"]] == [
        ("front", 4, 4),
        ("rear", 0, 4),
    ]
    # The marking is bright in the last two frames of one camera; the time is that of both.
    assert (found["false_obstacles"], found["seconds"]) == (1, pytest.approx(0.8))
    assert found["false_obstacles_per_minute"] == pytest.approx(75)


def test_the_options_change_what_is_in_view_and_what_is_marked(replayed: Path, tmp_path: Path) -> None:
    truth = truth_of(tmp_path / "truth.json")
    assert measured(replayed, truth, "--max-range", "9")["objects"] == 0
    assert measured(replayed, truth, "--min-pixels", "321")["objects"] == 0
    assert measured(replayed, truth, "--min-pixels", "320")["objects"] == 1
    half = truth_of(tmp_path / "half.json", box=[70, 44, 20, 32])
    assert measured(replayed, half, "--min-marked", "0.45")["found"] == 1
    assert measured(replayed, half, "--min-marked", "0.55")["found"] == 0


def test_bad_input_is_refused_with_the_remedy(
    replayed: Path, drive: Path, brightness: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        assert evaluate_obstacles([str(argument) for argument in arguments]) == 2
        return " ".join(capsys.readouterr().err.split())

    truth = truth_of(tmp_path / "truth.json")
    later = truth_of(tmp_path / "later.json", range(50, 52))
    said = refused(replayed, "--truth", later)
    assert "none of its 2 frames has the camera and the stamp of a frame of the replay" in said
    assert f"10 frames of its camera from stamp {START_NS} on" in said
    assert "no such file" in refused(tmp_path / "nothing", "--truth", truth)
    assert "--json" in refused(replayed, "--truth", truth, "--json", truth)
    assert "--json" in refused(replayed, "--truth", truth, "--json", replayed / "summary.json")
    assert "has no odometry on /odom" in refused(replayed, "--truth", truth, "--odometry", "/odom")
    with pytest.raises(SystemExit):
        evaluate_obstacles([str(replayed), "--truth", str(truth), "--truth", str(truth)])
    assert "1 REPLAY_OUT and 2 --truth; give one truth for each" in capsys.readouterr().err
    out = tmp_path / "masks"
    assert replay([str(drive), "--bundle", str(brightness), "--out", str(out), "--outputs", "semantic_mask"]) == 0
    capsys.readouterr()
    said = refused(out, "--truth", truth)
    assert "has no topic that ends in output/anomaly/mask, output/anomaly/detections; replay again with" in said


def test_frames_that_cannot_be_judged_are_named_and_the_exit_code_is_1(
    brightness: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images without calibration have no places; the truth has places only in some frames."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), frame(5))
    out = tmp_path / "out"
    options = ["--set", "persistence.seen_frames=1", "--set", "persistence.of_frames=1"]
    assert replay([str(folder), "--bundle", str(brightness), "--out", str(out), *options]) in (0, 1)
    boxed, placed = (
        {"id": "1", "kind": "pallet", "box": [70, 60, 20, 16]},
        {"id": "2", "kind": "x", "footprint": [[5, 0]]},
    )
    frames = [{"stamp_ns": (n + 1) * 10**8, "objects": [boxed, placed] if n < 2 else [boxed]} for n in range(4)]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"format": FORMAT, "version": 1, "frames": frames}))
    found = measured(out, truth, code=1)
    assert (found["frames"], found["found"], found["kilometres"]) == (2, 1, None)
    said = " ".join(capsys.readouterr().err.split())
    assert "2 frames are not measured: the truth has places" in said
    assert "no figures by kilometre: the replayed recording cannot be read as a bag" in said


def test_evaluate_replay_measures_obstacles_too(
    drive: Path, brightness: Path, replayed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels" / "labels_masks"
    labels.mkdir(parents=True)
    for number in range(FRAMES):
        mask = np.zeros(SIZE, np.uint8)
        mask[PALLET] = 1
        cv2.imwrite(str(labels / f"{stamp(number)}.png"), mask)
    truth = truth_of(tmp_path / "truth.json")
    options = ["--bundle", str(brightness), "--out", str(tmp_path / "out"), "--labels", str(labels.parent)]
    options += ["--set", "persistence.seen_frames=1", "--set", "persistence.of_frames=1", "--obstacles", str(truth)]
    assert evaluate_replay([str(drive), *options, "--outputs", "semantic_mask,anomaly_mask,obstacles"]) == 2
    assert "--obstacles: needs obstacle_detections in --outputs" in " ".join(capfd.readouterr().err.split())
    assert evaluate_replay([str(drive), *options]) == 0
    obstacles = json.loads((tmp_path / "out" / "metrics.json").read_text())["obstacles"]
    expected = measured(replayed, truth)
    for figures in (obstacles, expected):
        for row in figures["drives"]:
            del row["replay"]
    assert obstacles == expected


def test_it_runs_where_only_the_demo_is_installed() -> None:
    code = (
        "import sys\n"
        "for missing in ('torch', 'h5py', 'onnx', 'transformers', 'numba'):\n"
        "    sys.modules[missing] = None\n"
        "import training.evaluate_obstacles.__main__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
