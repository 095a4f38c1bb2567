"""The rendered drive: the same bytes for the same seed, and a truth that agrees with its pixels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from demo.played_frames import open_frames
from ros_ood_perception.obstacles.ground import GroundProjection
from ros_ood_perception.replay.inputs import open_input
from sample_drive.__main__ import main
from sample_drive.drive import DriveSettings, DriveSettingsError, SampleDrive
from sample_drive.drive_truth import DriveTruthError, read_truth
from sample_drive.ground_truth import CLASSES, VOID_ID, DriveFrame, VehiclePose


def frames(
    seed: int, seconds: float = 1.0, rate_hz: float = 3.0, jobs: int = 1, unknown: bool = True
) -> list[DriveFrame]:
    settings = DriveSettings(seed, seconds, rate_hz, height=120, width=160, unknown_objects=unknown)
    return list(SampleDrive(settings).frames(jobs))


@pytest.fixture(scope="module")
def drive() -> list[DriveFrame]:
    """Fifteen frames, two seconds apart, at the size of the demo's camera."""
    return list(SampleDrive(DriveSettings(seed=1, seconds=30, rate_hz=0.5)).frames(2))


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_threads() -> None:
    first, again, threaded = frames(5), frames(5), frames(5, jobs=3)
    assert len(first) == 3
    for one, two, three in zip(first, again, threaded, strict=True):
        assert one.image.tobytes() == two.image.tobytes() == three.image.tobytes()
        assert one.labels.tobytes() == two.labels.tobytes() == three.labels.tobytes()
        assert one.obstacles == two.obstacles == three.obstacles


def test_another_seed_is_another_drive() -> None:
    one, two = frames(5)[0], frames(6)[0]
    assert np.abs(one.image.astype(int) - two.image).mean() > 10
    assert (one.labels != two.labels).mean() > 0.1
    assert one.stamp_ns != two.stamp_ns


def test_a_drive_shows_every_class_and_unknown_objects(drive: list[DriveFrame]) -> None:
    seen = set(np.unique(np.stack([frame.labels for frame in drive])).tolist())
    assert seen == {*range(len(CLASSES)), VOID_ID}
    kinds = {obstacle.kind for frame in drive for obstacle in frame.obstacles if obstacle.visible_pixels}
    assert len(kinds) >= 4


def test_the_unknown_has_no_class_and_is_the_only_thing_without_one(drive: list[DriveFrame]) -> None:
    for frame in drive:
        assert np.array_equal(frame.anomaly, frame.instances > 0)
        assert np.array_equal(frame.anomaly, frame.labels == VOID_ID)
        ids = set(np.unique(frame.instances).tolist()) - {0}
        visible = {o.id for o in frame.obstacles if o.visible_pixels}
        # What is further ahead than the list goes may still be a few pixels.
        assert visible <= ids
        for obstacle in frame.obstacles:
            assert obstacle.visible_pixels == int((frame.instances == obstacle.id).sum())


def test_without_unknown_objects_the_streets_are_the_same_and_nothing_is_unknown() -> None:
    with_unknown, without = frames(1, seconds=8, rate_hz=0.5), frames(1, seconds=8, rate_hz=0.5, unknown=False)
    assert any(frame.anomaly.any() for frame in with_unknown)
    compared = 0
    for one, other in zip(with_unknown, without, strict=True):
        assert not other.anomaly.any()
        assert other.obstacles == ()
        # Later the vehicle goes round what lies in its way.
        if one.vehicle == other.vehicle:
            assert np.array_equal(one.labels[~one.anomaly], other.labels[~one.anomaly])
            compared += 1
    assert compared >= 2


def test_without_unknown_objects_the_vehicle_swerves_only_if_asked() -> None:
    def way(**changes: bool) -> list[VehiclePose]:
        settings = DriveSettings(1, 8.0, 1.0, height=60, width=80, steady=True, **changes)
        return [frame.vehicle for frame in SampleDrive(settings).frames(1)]

    around, straight = way(), way(unknown_objects=False)
    assert around != straight
    assert way(unknown_objects=False, always_swerves=True) == around


def test_swerves_with_unknown_objects_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "drive"), "--swerves"])
    assert "--swerves is for --no-unknown" in capsys.readouterr().err
    assert not (tmp_path / "drive").exists()


def test_an_unknown_objects_feet_are_placed_where_it_stands(drive: list[DriveFrame]) -> None:
    errors = []
    for frame in drive:
        ground = GroundProjection(frame.camera, frame.camera_pose)
        metres_a_pixel = 1 / (frame.camera.focal_y * ground.height_m)
        for obstacle in frame.obstacles:
            rows, columns = np.nonzero(frame.instances == obstacle.id)
            if obstacle.visible_pixels < 60 or obstacle.range_m > 40:
                continue
            if rows.max() >= frame.camera.height - 2 or columns.min() < 2 or columns.max() > frame.camera.width - 3:
                continue
            feet = [(column, rows[columns == column].max() + 0.5) for column in np.unique(columns)]
            error = abs(np.nanmin(ground.range_m(ground.place(feet))) - obstacle.range_m)
            # A pixel is range^2 / (f h) metres long there.
            assert error < 0.02 * obstacle.range_m + metres_a_pixel * obstacle.range_m**2, obstacle
            errors.append(error / obstacle.range_m)
    assert len(errors) >= 10
    assert np.median(errors) < 0.01


def test_an_unknown_objects_footprint_lies_in_its_mask(drive: list[DriveFrame]) -> None:
    checked = 0
    for frame in drive:
        ground = GroundProjection(frame.camera, frame.camera_pose)
        for obstacle in frame.obstacles:
            if obstacle.visible_pixels < 300:
                continue
            [pixel] = ground.pixels([obstacle.position])
            if not np.isfinite(pixel).all():
                continue
            mask = cv2.dilate((frame.instances == obstacle.id).astype(np.uint8), np.ones((9, 9), np.uint8))
            rows, columns = np.nonzero(mask)
            assert columns.min() <= pixel[0] <= columns.max()
            assert rows.min() <= pixel[1] <= rows.max()
            checked += 1
    assert checked >= 5


def test_the_command_writes_frames_a_bag_and_the_truth(tmp_path: Path) -> None:
    out = tmp_path / "drive"
    arguments = [str(out), "--seed", "2", "--seconds", "1", "--rate", "2", "--size", "160x120"]
    assert main(arguments) == 0
    truth = json.loads((out / "ground_truth.json").read_text())
    [drive] = truth["drives"]
    names = [frame["name"] for frame in drive["frames"]]
    assert len(names) == 2
    assert sorted(p.name for p in (out / "images").iterdir()) == sorted(names)
    expected = frames(2, seconds=1, rate_hz=2)
    for name, frame in zip(names, expected, strict=True):
        image = cv2.imread(str(out / "images" / name))
        assert np.array_equal(image[..., ::-1], frame.image)
        assert np.array_equal(cv2.imread(str(out / "labels" / name), cv2.IMREAD_UNCHANGED), frame.labels)
        mask = cv2.imread(str(out / "labels_masks" / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask.astype(bool), frame.anomaly)
    drive_truth = read_truth(out)
    for frame in expected:
        assert np.array_equal(drive_truth.instances(frame.stamp_ns), frame.instances)
    (out / "instances" / names[0]).unlink()
    with pytest.raises(DriveTruthError, match=r"instances/\d+\.png: no such file; .*render it again"):
        drive_truth.instances(expected[0].stamp_ns)
    # The images of the truth are no cameras: neither the demo nor a replay need be told which topic is.
    assert len(open_frames(out / "bag")) == 2
    assert [camera.image for camera in open_input(out / "bag", [], 1.0).cameras] == ["/camera/image_raw"]
    with AnyReader([out / "bag"]) as reader:
        topics = {connection.topic: connection for connection in reader.connections}
        stamps = [stamp for _, stamp, _ in reader.messages(connections=[topics["/camera/image_raw"]])]
        [(_, _, data), *_] = reader.messages(connections=[topics["/camera/camera_info"]])
        info = reader.deserialize(data, "sensor_msgs/msg/CameraInfo")
    assert stamps == [frame.stamp_ns for frame in expected]
    assert info.k.tolist()[0] == expected[0].camera.focal_x
    assert info.k.tolist()[4] == expected[0].camera.focal_y
    assert info.k.tolist()[5] == expected[0].camera.centre_y


def test_what_cannot_be_is_refused_with_what_would_be_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DriveSettingsError, match="pedestrians is -1"):
        DriveSettings(pedestrians=-1)
    with pytest.raises(DriveSettingsError, match="seconds is 0"):
        DriveSettings(seconds=0)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--size", "640"])
    assert "--size" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "old.png").touch()
    assert main([str(tmp_path), "--frames", "--seconds", "0.1"]) == 1
    assert "images: exists already; give another folder" in capsys.readouterr().err
    (tmp_path / "bag").mkdir()
    assert main([str(tmp_path), "--bag", "--seconds", "0.1"]) == 1
    assert "give another folder, or remove it" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'", name="x"), DriveSettingsError("wrong")])
def test_a_fault_while_rendering_is_not_reported_as_wrong_usage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(SampleDrive, "frames", fail)
    with pytest.raises(type(error)) as caught:
        main([str(tmp_path), "--seconds", "0.1"])
    assert caught.value is error
