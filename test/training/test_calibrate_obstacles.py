"""Operating points by false obstacles, on drives on which the false obstacles of every threshold are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brightness_bundle import DESCRIPTION, FULL_SCALE, write_brightness_bundle
from numpy.typing import NDArray
from recorded_drive import START_NS, STEP_NS, camera_info, header, image, static_transforms, write_bag

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import live_settings
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.command_line.main import main as replay
from training.calibrate_obstacles.__main__ import main as calibrate
from training.calibrate_obstacles.candidates import THRESHOLDS, Candidate, candidates
from training.calibrate_obstacles.choosing import Choice, Counts, Exposure, Found, Round, ranked
from training.calibrate_obstacles.counting import DriveCounts
from training.calibrate_obstacles.poisson import poisson_bound, poisson_interval
from training.evaluate_obstacles.__main__ import main as evaluate

SIZE = (120, 160)
BACKGROUND = 0
FRAMES = 60
HOURS = FRAMES * STEP_NS / 3.6e12


@dataclass(frozen=True)
class Blob:
    """A bright square in some frames: grey level, left, top, side, first frame and number of frames."""

    grey: int
    left: int
    top: int
    first: int
    frames: int = 4
    side: int = 10


FALSE = (
    Blob(60, 10, 85, 2),
    Blob(110, 60, 85, 2),
    Blob(150, 110, 85, 10),
    Blob(150, 10, 85, 20),
    Blob(190, 60, 85, 30),
    Blob(210, 110, 85, 40),
    # These two never count: one is seen in a single frame, and one stands above the horizon.
    Blob(240, 60, 85, 50, frames=1),
    Blob(240, 60, 15, 20),
)
LASTING = sorted(blob.grey / FULL_SCALE for blob in FALSE[:-2])


def pictures(blobs: Sequence[Blob], frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    found = [np.full((*SIZE, 3), BACKGROUND, np.uint8) for _ in range(frames)]
    for blob in blobs:
        for number in range(blob.first, min(blob.first + blob.frames, frames)):
            found[number][blob.top : blob.top + blob.side, blob.left : blob.left + blob.side] = blob.grey
    return found


def odometry(number: int, x: float) -> Any:
    """The vehicle at x metres, at the frame with the number."""
    types = message_types()
    orientation = types("geometry_msgs/msg/Quaternion", w=1.0)
    pose = types("geometry_msgs/msg/Pose", position=types("geometry_msgs/msg/Point", x=x), orientation=orientation)
    covered = types("geometry_msgs/msg/PoseWithCovariance", pose=pose)
    return types("nav_msgs/msg/Odometry", header=header(number, "odom"), child_frame_id="base_link", pose=covered)


def write_drive(path: Path, blobs: Sequence[Blob], poses: Sequence[Any] = ()) -> Path:
    topics: dict[str, list[Any]] = {
        **({"/odometry": list(poses)} if poses else {}),
        "/tf_static": [static_transforms()],
        "/front/camera_info": [camera_info(0, *SIZE)],
        "/front/image_raw": [image(number, picture) for number, picture in enumerate(pictures(blobs))],
    }
    return write_bag(path, topics)


def write_truth(path: Path, objects: Sequence[Blob]) -> Path:
    frames = [
        {
            "stamp_ns": START_NS + number * STEP_NS,
            "objects": [
                {"id": str(index), "kind": "box", "box": [blob.left, blob.top, blob.side, blob.side]}
                for index, blob in enumerate(objects)
                if blob.first <= number < blob.first + blob.frames
            ],
        }
        for number in range(FRAMES)
    ]
    path.write_text(json.dumps({"format": "ros_ood_perception/obstacle_truth", "version": 1, "frames": frames}))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_brightness_bundle(tmp_path / "bundle")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write_drive(tmp_path / "drives" / "tuesday", FALSE)


def run(bundle: Path, drives: Path, *options: str) -> int:
    return calibrate([str(bundle), "--drives", str(drives), "--engine", "onnxruntime", "--threads", "1", *options])


def false_obstacles(out: Path, tmp_path: Path) -> int:
    """Of a replay in which nothing is unknown."""
    truth = write_truth(tmp_path / "nothing.json", ())
    assert evaluate([str(out), "--truth", str(truth), "--json", str(tmp_path / "measured.json")]) == 0
    return int(json.loads((tmp_path / "measured.json").read_text())["false_obstacles"])


def asked(count: int) -> str:
    """The rate of so many false obstacles on the drive."""
    return f"{count / HOURS:g}"


def test_every_count_is_that_of_the_drive_and_a_replay_with_the_point_raises_as_many_obstacles(
    bundle: Path, drive: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    assert run(bundle, drive.parent, "--false-per-hour", asked(3), asked(4), "--json", str(figures)) == 0
    found = json.loads(figures.read_text())
    assert found["hours"] == pytest.approx(HOURS)
    for candidate in found["candidates"]:
        # Every eighth threshold, and the seven below the lowest that keeps a rate.
        assert set(THRESHOLDS[::8]) < set(candidate["thresholds"]) < set(THRESHOLDS)
        for threshold, count in zip(candidate["thresholds"], candidate["false_obstacles"], strict=True):
            assert count == sum(score >= np.float32(threshold) for score in LASTING), threshold
    points = {point.name: point for point in read_bundle(bundle).description.operating_points}
    assert list(points)[:2] == [point.name for point in DESCRIPTION.operating_points]
    for allowed, expected in ((3, 2), (4, 4)):  # two have the same score, so there is no threshold with three
        point = points[f"obstacles_{asked(allowed)}_per_hour"]
        assert point.false_obstacles is not None
        assert point.false_obstacles.count == expected
        assert [d.false_obstacles for d in point.false_obstacles.drives] == [expected]
        assert point.false_obstacles.drives[0].name == "tuesday"
        below = LASTING[-expected - 1]
        assert below < point.threshold <= LASTING[-expected]
        assert point.threshold == min(t for t in THRESHOLDS if t > below)
        out = tmp_path / f"replay{allowed}"
        options = ["--bundle", str(bundle), "--set", f"operating_point={point.name}", "--engine", "onnxruntime"]
        assert replay([str(drive), *options, "--out", str(out)]) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary["operating_point"] == point.name
        assert summary["settings"]["region.hysteresis"]["from"] == f"operating point {point.name}"
        assert false_obstacles(out, tmp_path) == expected


def test_a_rate_that_the_hours_cannot_support_is_refused_with_the_hours_that_could(
    bundle: Path, drive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "bundle.yaml").read_bytes()
    assert run(bundle, drive, "--false-per-hour", "6") == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "6 seconds without a false obstacle show at most 1797 an hour (95 %); 6 an hour needs 30 minutes" in said
    assert (bundle / "bundle.yaml").read_bytes() == before
    twenty_minutes = Exposure("hour", 1 / 3, 12_000)
    assert "show at most 9 an hour" in twenty_minutes.too_little_for(6)
    assert not twenty_minutes.too_little_for(9)


def test_with_objects_the_setting_that_finds_them_is_chosen_and_without_the_lowest_threshold(
    bundle: Path, tmp_path: Path
) -> None:
    false = write_drive(tmp_path / "false", [Blob(200, 10 + 40 * i, 85, 5, side=10) for i in range(3)])
    thing = Blob(230, 60, 85, 5, frames=8, side=12)
    objects = write_drive(tmp_path / "objects", [thing])
    truth = write_truth(tmp_path / "truth.json", [thing])
    # 19 and 192 pixels: the larger area drops all false obstacles, and the object as well.
    options = ["--false-per-hour", asked(2), "--try", "region.min_area=0.001,0.01"]
    options += ["--try", "region.hysteresis=1.0", "--try", "persistence.seen_frames=2"]
    options += ["--json", str(tmp_path / "figures.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.calibrate_obstacles.choosing.poisson_bound", lambda count: 1.0 + count)
        assert run(bundle, false, *options) == 0
        [*_, point] = read_bundle(bundle).description.operating_points
        assert point.settings["region.min_area"] == 0.01
        assert run(bundle, false, *options, "--objects", f"{objects}={truth}", "--out", str(tmp_path / "out")) == 0
    [*_, point] = read_bundle(tmp_path / "out").description.operating_points
    assert point.settings["region.min_area"] == 0.001
    assert 200 / FULL_SCALE < point.threshold <= 230 / FULL_SCALE
    assert point.false_obstacles is not None
    assert (point.false_obstacles.objects, point.false_obstacles.objects_found) == (1, 1.0)
    row = json.loads((tmp_path / "figures.json").read_text())["rates"][0]["rows"][0]
    assert (row["share_of_frames_found"], row["share_of_frames_marked"]) == (7 / 8, 1.0)


@pytest.mark.parametrize(("grey", "beside_it"), [(208, 2), (208, 3), (252, 3)])
def test_drives_with_objects_have_to_keep_the_rate_too(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], grey: int, beside_it: int
) -> None:
    false = write_drive(tmp_path / "false", [Blob(200, 10 + 40 * i, 85, 5) for i in range(3)])
    thing = Blob(230, 60, 85, 5, frames=8, side=12)
    objects = write_drive(tmp_path / "objects", [thing, *(Blob(grey, 90 + 25 * i, 85, 5) for i in range(beside_it))])
    truth = write_truth(tmp_path / "truth.json", [thing])
    options = ["--false-per-hour", asked(2), "--try", "region.min_area=0.001,0.01", "--try", "region.hysteresis=1.0"]
    options += ["--try", "persistence.seen_frames=2", "--objects", f"{objects}={truth}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.calibrate_obstacles.choosing.poisson_bound", lambda count: 1.0 + count)
        assert run(bundle, false, *options, "--json", str(tmp_path / "figures.json")) == 0
        [*_, point] = read_bundle(bundle).description.operating_points
        rows = {
            row["settings"]["region.min_area"]: row
            for row in json.loads((tmp_path / "figures.json").read_text())["rates"][0]["rows"]
        }
        # The larger area finds nothing, and raises nothing.
        assert rows[0.01]["false_obstacles_with_objects"] == 0
        small = rows[0.001]
        assert small["false_obstacles_with_objects"] == (beside_it if (grey, beside_it) != (208, 3) else 0)
        below, above = {(208, 2): (200, 208), (208, 3): (208, 230), (252, 3): (230, 252)}[grey, beside_it]
        assert below / FULL_SCALE < small["threshold"] <= above / FULL_SCALE
        assert point.settings["region.min_area"] == (0.01 if grey == 252 else 0.001)
        assert "no setting keeps" not in capfd.readouterr().err
        options[3] = "region.min_area=0.001"
        assert run(bundle, false, *options) == int(grey == 252)
        [*_, point] = read_bundle(bundle).description.operating_points
        assert point.threshold == small["threshold"]
        said = " ".join(capfd.readouterr().err.split())
        assert ("no setting keeps 1200 an hour on the drives with objects" in said) == (grey == 252)
        assert ("none of which keeps it on the drives with objects" in point.chosen_by) == (grey == 252)


@pytest.mark.parametrize(("metres_a_frame", "expected"), [(0.0, 2), (1.0, 0)])
def test_obstacles_are_followed_on_the_ground_where_the_drive_says_where_the_vehicle_was(
    metres_a_frame: float, expected: int, bundle: Path, tmp_path: Path
) -> None:
    blobs = [Blob(240, 60, 85, 5, frames=8), Blob(240, 60, 85, 30, frames=8)]
    drive = write_drive(tmp_path / "moving", blobs, [odometry(n, metres_a_frame * n) for n in range(FRAMES + 2)])
    options = ["--set", "ground.odometry_topic=/odometry", "--false-per-hour", asked(4)]
    figures = tmp_path / "figures.json"
    assert run(bundle, drive, *options, "--json", str(figures)) == 0
    found = json.loads(figures.read_text())
    # What stays in one place of the picture slides with a vehicle that moves, so it is no obstacle.
    [candidate] = found["candidates"]
    assert candidate["false_obstacles"][0] == expected
    assert [drive["notes"] for drive in found["drives"]] == [[]]
    out = tmp_path / "replay"
    settings = ["--set", "ground.odometry_topic=/odometry", "--set", "anomaly_threshold=0.05"]
    assert replay([str(drive), "--bundle", str(bundle), "--engine", "onnxruntime", *settings, "--out", str(out)]) == 0
    assert false_obstacles(out, tmp_path) == expected


def test_a_drive_that_does_not_say_where_the_vehicle_was_is_named(
    bundle: Path, drive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, drive, "--false-per-hour", asked(4), "--set", "ground.odometry_topic=/odometry") == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "/odometry has no nav_msgs/msg/Odometry, so it is not known where the vehicle was" in said
    assert "in 60 of 60 frames it is not known where the vehicle was" in said


def test_a_region_that_is_too_small_on_the_ground_raises_nothing_and_settings_share_what_is_found(
    bundle: Path, drive: Path, tmp_path: Path
) -> None:
    # The camera is 1.5 m high with a focal length of 100 pixels. So the squares, of 10 pixels with the foot at row 95,
    # stand at 4.3 m and have a size of 0.45 m.
    figures = tmp_path / "figures.json"
    options = ["--false-per-hour", asked(4), "--try", "region.min_size_m=0.0,0.1,5.0", "--json", str(figures)]
    assert run(bundle, drive, *options) == 0
    found = {one["settings"]["region.min_size_m"]: one for one in json.loads(figures.read_text())["candidates"]}
    assert found[0.0]["false_obstacles"] == found[0.1]["false_obstacles"]
    assert set(found[5.0]["false_obstacles"]) == {0}
    # Nothing is raised at any threshold, so there is none below the lowest to try.
    assert found[5.0]["thresholds"] == list(THRESHOLDS[::8])
    assert read_bundle(bundle).description.operating_points[-1].settings["region.min_size_m"] == 5.0


def test_finer_thresholds_are_those_just_below_the_lowest_coarse_one_that_keeps_a_rate() -> None:
    def drive(*counts: int | None) -> DriveCounts:
        return DriveCounts(list(counts), 10, pixels=1)

    coarse = [(0, 0), (0, 8), (0, 16), (1, 0), (1, 8), (1, 16)]
    some = [Candidate({}, {}), Candidate({}, {})]
    counts = Counts(some, (Round(coarse, [drive(None, 5, 1, 9, 8, 7)]),))
    assert counts.lowest_threshold(0, 2) == 16
    assert counts.lowest_threshold(1, 2) is None
    assert counts.finer([2]) == [(0, threshold) for threshold in range(9, 16)]
    assert counts.finer([2, 5]) == [(0, threshold) for threshold in (*range(1, 8), *range(9, 16))]
    # A finer one below one that does not keep the rate is not taken, however few obstacles it raises.
    finer = Round(counts.finer([2]), [drive(0, 0, 0, 3, 2, 2, 1)])
    both = Counts(some, (*counts.rounds, finer))
    assert both.lowest_threshold(0, 2) == 13
    assert both.of_drive(0, 0, 13) == 2
    assert both.tried(0) == [0, 8, *range(9, 17)]
    assert both.finer([2]) == [(0, threshold) for threshold in range(6, 13)]


def test_a_threshold_is_raised_until_the_drives_with_objects_keep_the_rate_at_it_and_above() -> None:
    # Coarse ones up to 40, and fine ones below 8.
    tries = [(0, threshold) for threshold in (*range(5, 9), 16, 24, 32, 40, 48)]
    counts = Counts([Candidate({}, {})], (Round(tries, [DriveCounts([1] * len(tries), 10, pixels=1)]),))
    choice = Choice(0, 5, 1)
    assert [threshold for _, threshold in counts.from_choice(choice)] == [5, 6, 7, 8, 16, 24, 32]

    def raised(*false: int) -> Choice:
        found = [Found(1, 1, 1.0, 1.0, number, amount=1.0) for number in false]
        return counts.raised(choice, 2.0, dict(zip(counts.from_choice(choice), found, strict=True)))

    assert raised(2, 1, 1, 1, 0, 0, 0).threshold == 5
    assert raised(3, 2, 1, 1, 0, 0, 0).threshold == 6
    # Regions merge at low thresholds, so few false obstacles there do not count.
    assert raised(0, 1, 3, 2, 1, 0, 0).threshold == 8
    assert raised(0, 5, 5, 5, 5, 5, 5).threshold == 32


def test_a_choice_that_misses_the_rate_on_the_drives_with_objects_comes_last() -> None:
    keeps = Choice(0, 9, 0, Found(2, 1, 0.1, None, 1, amount=1.0))
    misses = Choice(1, 5, 0, Found(2, 2, 0.9, None, 3, amount=1.0))
    without_time = Choice(2, 5, 0, Found(2, 2, 0.9, None, 9, amount=0.0))
    assert ranked([without_time, misses, keeps], 1.0) == [keeps, misses, without_time]


def test_finished_drives_are_not_counted_again_and_what_the_parameters_set_is_kept(
    bundle: Path, drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--false-per-hour", asked(4), "--json", str(tmp_path / "figures.json"), "--set", "region.hysteresis=0.9"]
    assert run(bundle, drive, *options) == 0
    assert "kept, because the parameters set them: region.hysteresis 0.9" in capfd.readouterr().err
    first = (tmp_path / "figures.json").read_bytes()
    write_drive(tmp_path / "drives" / "wednesday", ())
    assert run(bundle, drive.parent, *options) == 0
    assert capfd.readouterr().err.count("counted before") == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [d["name"] for d in figures["drives"]] == ["tuesday", "wednesday"]
    assert figures["candidates"][0]["settings"]["region.hysteresis"] == 0.9
    assert (
        figures["candidates"][0]["false_obstacles"][-20:] == json.loads(first)["candidates"][0]["false_obstacles"][-20:]
    )
    assert run(bundle, drive, *options, "--try", "region.hysteresis=0.5") == 2
    assert "--try region.hysteresis: the parameters set it to 0.9" in capfd.readouterr().err
    assert run(bundle, drive, *options, "--set", "anomaly_threshold=0.5") == 2
    assert "anomaly_threshold, which would win over the operating point" in capfd.readouterr().err


def test_images_of_a_folder_stand_for_themselves_and_each_obstacle_counts_in_each_frame(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    blobs = (Blob(200, 10, 85, 0, frames=3), Blob(150, 60, 85, 2, frames=1))
    for number, picture in enumerate(pictures(blobs, 40)):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    assert run(bundle, folder, "--false-per-hour", "6000") == 2
    assert "give --false-per-frame instead" in capfd.readouterr().err
    assert run(bundle, folder, "--false-per-frame", "0.09", "0.1") == 0
    low, high = read_bundle(bundle).description.operating_points[-2:]
    assert (low.name, high.name) == ("obstacles_0.09_per_frame", "obstacles_0.1_per_frame")
    assert low.false_obstacles is not None
    assert high.false_obstacles is not None
    assert (low.false_obstacles.count, high.false_obstacles.count) == (3, 4)
    assert high.settings["persistence.seen_frames"] == high.settings["persistence.of_frames"] == 1


# scipy.stats.chi2: ppf(0.025, 2 k) / 2, ppf(0.975, 2 k + 2) / 2 and ppf(0.95, 2 k + 2) / 2.
@pytest.mark.parametrize(
    ("count", "low", "high", "bound"),
    [
        (0, 0.0, 3.6889, 2.9957),
        (1, 0.0253, 5.5716, 4.7439),
        (7, 2.8144, 14.4227, 13.1481),
        (60, 45.7863, 77.2319, 74.3896),
        (1500, 1425.0425, 1577.877, 1565.2896),
    ],
)
def test_intervals_are_those_of_the_chi_square_distribution(count: int, low: float, high: float, bound: float) -> None:
    assert poisson_interval(count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert poisson_bound(count) == pytest.approx(bound, abs=1e-4)


def test_the_grid_has_a_low_threshold_with_evidence_and_keeps_what_the_parameters_set() -> None:
    def tried(**given: Any) -> set[tuple[Any, Any, Any]]:
        values = {declaration.name: declaration.default_value for declaration in DECLARATIONS}
        live = live_settings(values | {name.replace("__", "."): value for name, value in given.items()})
        names = ("region.hysteresis", "evidence.weak_sighting", "evidence.strong_sighting")
        return {tuple(one.settings[name] for name in names) for one in candidates(live, (), True, False)}

    assert tried() == {(0.7, 0.9, 1.2), (1.0, -1.2, 2.0)}
    assert tried(evidence__weak_sighting=-0.5) == {(0.7, -0.5, 1.2)}
