"""Replays from the command line's own function: the same bytes on every run, whatever the input and its damage."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from recorded_drive import (
    BUNDLE,
    BUNDLES,
    START_NS,
    STEP_NS,
    camera_info,
    header,
    image,
    picture,
    static_transforms,
    write_bag,
    write_drive,
    write_ros1_drive,
)
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.camera.raw_image import to_colour
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.settings import ParameterError, fixed_settings
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.results import result_frames
from ros_ood_perception.recordings.split_bag import topic_digests
from ros_ood_perception.replay.command_line.main import main
from ros_ood_perception.replay.command_line.opening import open_all
from ros_ood_perception.replay.command_line.options import make_parser
from ros_ood_perception.replay.inputs import InputFrame
from ros_ood_perception.replay.run import is_own_topic
from ros_ood_perception.replay.state import ReplayError

FRAMES = 12
LONG = 24
# Low, so that random pictures have anomalies and obstacles.
ANOMALOUS = ("--set", "anomaly_threshold=0.3", "--set", "region.drivable_classes=['road', 'pavement', 'building']")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "drive", FRAMES)


@pytest.fixture(scope="module")
def replayed(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replayed") / "out"
    assert run(drive, out) == 0
    return out


def run(source: Path, out: Path, *options: str) -> int:
    return main([*BUNDLE, str(source), "--out", str(out), "--outputs", "all", *ANOMALOUS, *options])


def summary(out: Path) -> dict[str, Any]:
    found = json.loads((out / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def digests(out: Path) -> dict[str, str]:
    return {topic: facts["sha256"] for topic, facts in summary(out)["topics"].items()}


def accounting(out: Path) -> dict[str, int]:
    (camera,) = summary(out)["cameras"]
    return {name: count for name, count in camera["accounting"].items() if count}


# -- what comes out ------------------------------------------------------------------------------------------------


def test_every_frame_has_every_output_at_its_place_in_time_and_under_its_stamp(replayed: Path) -> None:
    times = [START_NS + number * STEP_NS for number in range(FRAMES)]
    found: dict[str, list[tuple[int, int, str]]] = {}
    with AnyReader([replayed / "bag"], default_typestore=message_types().typestore) as reader:
        for connection, time_ns, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            head = getattr(message, "header", None) or message.markers[0].header
            stamp_ns = head.stamp.sec * 10**9 + head.stamp.nanosec
            found.setdefault(connection.topic, []).append((time_ns, stamp_ns, head.frame_id))
    for topic in ("semantic/mask", "anomaly/mask", "anomaly/score", "anomaly/detections", "semantic/confidence"):
        assert found[f"/perception_node/output/{topic}"] == [(t, t, "camera_optical") for t in times]
    for topic in ("anomaly/obstacles", "anomaly/obstacle_markers", "ground/free", "ground/grid"):
        assert found[f"/perception_node/output/{topic}"] == [(t, t, "base_link") for t in times]
    assert [t for t, _, _ in found["/perception_node/output/semantic/label_info"]] == times[:1]
    assert [t for t, _, _ in found["/diagnostics"]] == [times[0], times[10], times[11]]


def test_the_results_are_those_of_the_perception_itself(drive: Path, replayed: Path, shipped_bundle: Path) -> None:
    bundle = read_bundle(shipped_bundle)
    engine = open_engine(bundle, "auto", 1)
    perception = Perception(engine, 0.3, len(bundle.description.classes))
    recorded = list(result_frames(Bag(replayed / "bag")))
    assert len(recorded) == FRAMES
    assert any(frame.pictures["anomaly_mask"].any() for frame in recorded)
    for number, frame in enumerate(recorded):
        result = perception(to_colour(image(number), bundle.description.input.colour_order))
        np.testing.assert_array_equal(frame.pictures["semantic_mask"], result.semantic)
        np.testing.assert_array_equal(frame.pictures["anomaly_mask"] > 0, result.anomaly_mask)
    engine.close()


def test_obstacles_have_a_place_from_the_bags_calibration_and_static_transforms(replayed: Path) -> None:
    bag = Bag(replayed / "bag")
    clouds = [bag.deserialize(m) for m in bag.messages(["/perception_node/output/anomaly/obstacles"])]
    assert sum(cloud.width for cloud in clouds) > 0
    assert summary(replayed)["cameras"][0]["ground"] == "known"


def test_three_replays_and_any_number_of_jobs_give_the_same_bytes(drive: Path, replayed: Path, tmp_path: Path) -> None:
    for number, options in enumerate(([], ["--jobs", "2"], ["--frames-per-file", "5"])):
        assert run(drive, tmp_path / str(number), *options) == 0
        assert digests(tmp_path / str(number)) == digests(replayed)
    # And they are the digests of what lies in the bag, not only of what was meant to be written.
    assert topic_digests(Bag(replayed / "bag")).hex() == digests(replayed)


def test_chunks_are_compressed_unless_told_otherwise_and_no_digest_depends_on_it(
    drive: Path, replayed: Path, tmp_path: Path
) -> None:
    zstd_chunk = (4).to_bytes(4, "little") + b"zstd"
    plain = tmp_path / "plain"
    assert run(drive, plain, "--compression", "none", "--frames-per-file", "5") == 0
    files = sorted((plain / "bag").glob("*.mcap"))
    assert len(files) == 3
    assert all(zstd_chunk not in file.read_bytes() for file in files)
    [compressed] = (replayed / "bag").glob("*.mcap")
    assert zstd_chunk in compressed.read_bytes()
    assert compressed.stat().st_size < sum(file.stat().st_size for file in files) / 2
    assert topic_digests(Bag(replayed / "bag")).hex() == topic_digests(Bag(plain / "bag")).hex() == digests(plain)
    # A replay that lost its last file goes on with compressed ones to the same bytes.
    files[-1].unlink()
    assert run(drive, plain, "--resume", "--frames-per-file", "5") == 0
    assert zstd_chunk in files[-1].read_bytes()
    assert topic_digests(Bag(plain / "bag")).hex() == digests(plain) == digests(replayed)


def test_other_frames_parameters_or_outputs_give_other_bytes(drive: Path, replayed: Path, tmp_path: Path) -> None:
    assert run(drive, tmp_path / "out", "--set", "anomaly_threshold=0.31") == 0
    before, after = digests(replayed), digests(tmp_path / "out")
    assert before["/perception_node/output/anomaly/mask"] != after["/perception_node/output/anomaly/mask"]
    assert before["/perception_node/output/semantic/mask"] == after["/perception_node/output/semantic/mask"]


def test_the_input_can_be_copied_beside_the_results_byte_by_byte(drive: Path, replayed: Path, tmp_path: Path) -> None:
    assert run(drive, tmp_path / "out", "--with-input") == 0
    copied = digests(tmp_path / "out")
    source = topic_digests(Bag(drive)).hex()
    assert {topic: copied[topic] for topic in source} == source
    assert {topic: copied[topic] for topic in digests(replayed)} == digests(replayed)


def test_results_that_the_recording_holds_are_not_copied_among_the_new_ones(
    drive: Path, replayed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # As a vehicle's recorder with all topics: camera, results and diagnostics of its own run.
    assert run(drive, tmp_path / "vehicle", "--with-input", "--set", "anomaly_threshold=0.5") == 0
    recording = tmp_path / "vehicle" / "bag"
    capfd.readouterr()
    assert run(recording, tmp_path / "out", "--with-input") == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "not copied, as they would look like results of this replay: /diagnostics, /perception_node/debug/" in said
    assert digests(tmp_path / "out") == digests(replayed) | topic_digests(Bag(drive)).hex()
    # Nor what this replay does not write: an old score beside a new mask would pass for a new one.
    assert (
        main([*BUNDLE, str(recording), "--out", str(tmp_path / "few"), "--with-input", "--outputs", "semantic_mask"])
        == 0
    )
    results = {topic for topic in digests(tmp_path / "few") if topic.startswith("/perception_node/")}
    assert results == {"/perception_node/output/semantic/mask"}


def test_results_that_the_recording_holds_are_copied_beside_those_under_another_name(
    drive: Path, replayed: Path, tmp_path: Path
) -> None:
    assert run(drive, tmp_path / "vehicle", "--with-input") == 0
    options = ("--with-input", "--node-name", "/perception")
    assert run(tmp_path / "vehicle" / "bag", tmp_path / "out", *options) == 0
    old = {topic: digest for topic, digest in digests(replayed).items() if topic != "/diagnostics"}
    found = digests(tmp_path / "out")
    assert {topic: found[topic] for topic in old} == old
    new = {topic.replace("/perception_node/", "/perception/"): digest for topic, digest in old.items()}
    assert {topic: found[topic] for topic in new} == new


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("/diagnostics", True),
        ("/perception_node/output/semantic/mask", True),
        ("/perception_node/front/output/anomaly/score", True),
        ("/perception_node/output/state", True),
        ("/perception_node_2/output/semantic/mask", False),
        ("/other/output/semantic/mask", False),
        ("/perception_node/parameter_events", False),
        ("/front/image_raw", False),
    ],
)
def test_a_nodes_own_topics_are_told_by_its_name(topic: str, own: bool) -> None:
    assert is_own_topic(topic, "/perception_node") is own


def test_frames_left_out_until_no_obstacle_can_be_found_are_told(
    drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = ("--every", "3", "--set", "persistence.max_gap_s=0.25")
    assert run(drive, tmp_path / "few", *few) == 0
    (camera,) = summary(tmp_path / "few")["cameras"]
    # All but the first: before it there was no gap.
    assert camera["frames_too_far_apart"]["frames"] == camera["accounting"]["published"] - 1
    said = " ".join(capfd.readouterr().err.split())
    assert "no obstacle can be found: the stamps of two frames that were used are 0.30 s apart" in said
    assert run(drive, tmp_path / "masks", *few, "--outputs", "semantic_mask") == 0
    assert run(drive, tmp_path / "all", "--set", "persistence.max_gap_s=0.25") == 0
    for out in ("masks", "all"):
        (camera,) = summary(tmp_path / out)["cameras"]
        assert camera["frames_too_far_apart"] == {"frames": 0, "problem": ""}


@pytest.mark.parametrize(
    ("zero", "meaning"),
    [
        ((), ""),
        ((2, 3), "2 of 6 frames of /front/image_raw have the stamp 0, so obstacles are forgotten at each change"),
        (range(6), "6 of 6 frames of /front/image_raw have the stamp 0, so obstacles have the age 0 s, and a gap"),
    ],
)
def test_frames_with_the_stamp_zero_are_counted_and_it_is_said_what_that_means(
    zero: Collection[int], meaning: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = [image(number) for number in range(6)]
    for number in zero:
        frames[number].header.stamp = message_types()("builtin_interfaces/msg/Time")
    assert run(write_bag(tmp_path / "bag", {"/front/image_raw": frames}), tmp_path / "out") == 0
    [camera] = summary(tmp_path / "out")["cameras"]
    assert camera["zero_stamps"]["frames"] == len(zero)
    assert camera["zero_stamps"]["problem"].startswith(meaning)
    said = " ".join(capfd.readouterr().err.split())
    assert ("the stamp 0" in said, "by their order only, not by stamp" in said) == (bool(zero), bool(zero))


def test_a_part_of_the_recording_and_every_nth_frame(drive: Path, tmp_path: Path) -> None:
    assert run(drive, tmp_path / "out", "--start", "0.2", "--stop", "0.9", "--every", "3") == 0
    assert accounting(tmp_path / "out") == {"frames": 7, "left_out": 4, "published": 3}
    stamps = [frame.stamp_ns for frame in result_frames(Bag(tmp_path / "out" / "bag"))]
    assert stamps == [START_NS + number * STEP_NS for number in (2, 5, 8)]


def test_no_rclpy_and_no_training_is_imported(drive: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "absent = ['rclpy', 'sensor_msgs', 'std_msgs', 'torch', 'training', 'rerun', 'jinja2', 'matplotlib']\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "from ros_ood_perception.replay.command_line.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = [str(drive), *BUNDLE, "--out", str(tmp_path / "out"), "--report", str(tmp_path / "report.html")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


# -- what goes in --------------------------------------------------------------------------------------------------


def test_mcap_sqlite_ros_1_compressed_and_a_folder_give_the_same_masks(
    drive: Path, replayed: Path, tmp_path: Path
) -> None:
    write_drive(tmp_path / "sqlite", FRAMES, StoragePlugin.SQLITE3)
    write_ros1_drive(tmp_path / "ros1.bag", FRAMES)
    (tmp_path / "folder").mkdir()
    compressed = []
    for number in range(FRAMES):
        encoded = cv2.imencode(".png", picture(number))[1].reshape(-1)
        (tmp_path / "folder" / f"{number:03d}.png").write_bytes(encoded.tobytes())
        kind = "sensor_msgs/msg/CompressedImage"
        compressed.append(message_types()(kind, header=header(number), format="bgr8; png", data=encoded))
    write_bag(tmp_path / "compressed", {"/front/image_raw/compressed": compressed})
    expected = [frame.pictures["semantic_mask"] for frame in result_frames(Bag(replayed / "bag"))]
    for name in ("sqlite", "ros1.bag", "folder", "compressed"):
        assert run(tmp_path / name, tmp_path / f"out_{name}") == 0, name
        masks = [frame.pictures["semantic_mask"] for frame in result_frames(Bag(tmp_path / f"out_{name}" / "bag"))]
        np.testing.assert_array_equal(masks, expected, err_msg=name)
    assert digests(tmp_path / "out_sqlite") == digests(replayed)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("compression", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_a_bag_compressed_by_file_or_by_message_gives_the_same_bytes(
    compression: CompressionMode, storage: StoragePlugin, drive: Path, replayed: Path, tmp_path: Path
) -> None:
    bag = write_drive(tmp_path / "bag", FRAMES, storage, compression=compression)
    assert any(file.suffix == ".zstd" for file in bag.iterdir()) == (compression is CompressionMode.FILE)
    # The obstacles among the digests have a place: calibration and /tf_static are read as well.
    assert run(bag, tmp_path / "out", "--with-input") == 0
    assert digests(tmp_path / "out") == digests(replayed) | topic_digests(Bag(drive)).hex()


def test_a_damaged_bag_compressed_by_file_is_named_and_not_taken_for_one_of_ros_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "bag", FRAMES, compression=CompressionMode.FILE)
    (file,) = bag.glob("*.zstd")
    file.write_bytes(file.read_bytes()[:1000])
    assert run(bag, tmp_path / "out") == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "cannot be read as a bag" in said
    assert "rosbag reindex" not in said


def test_a_video_is_replayed_with_its_own_times(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (128, 96))
    for number in range(5):
        writer.write(picture(number))
    writer.release()
    assert run(tmp_path / "a.avi", tmp_path / "out") == 0
    stamps = [frame.stamp_ns for frame in result_frames(Bag(tmp_path / "out" / "bag"))]
    assert stamps == [10**9 + number * 50_000_000 for number in range(5)]


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_start_beyond_the_end_of_a_video_or_a_folder_names_its_length(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / ("a.avi" if kind == "video" else "images")
    if kind == "video":
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
        for number in range(5):
            writer.write(picture(number))
        writer.release()
    else:
        source.mkdir()
        for number in range(5):
            cv2.imwrite(str(source / f"{number}.png"), picture(number))
    assert run(source, tmp_path / "out", "--start", "0.45") == 2
    assert "0.400 s after the first" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", "--start", "0.4") == 0
    assert accounting(tmp_path / "out") == {"frames": 1, "published": 1}


@pytest.mark.parametrize("kind", ["video", "folder"])
@pytest.mark.parametrize(("start", "stop", "frames"), [("0", "0.5", range(5)), ("1", "2", range(10, 20))])
def test_start_and_stop_count_from_the_first_frame_of_a_video_and_of_a_folder(
    start: str, stop: str, frames: range, kind: str, tmp_path: Path
) -> None:
    if kind == "video":
        # It has a rate of its own: --rate must not matter.
        source, rate = tmp_path / "a.avi", "25"
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
        for number in range(30):
            writer.write(picture(number, 24, 32))
        writer.release()
    else:
        source, rate = tmp_path / "images", "10"
        source.mkdir()
        for number in range(30):
            cv2.imwrite(str(source / f"{number:03d}.png"), picture(number, 24, 32))
    opened = open_all(
        make_parser().parse_args([*BUNDLE, str(source), "--start", start, "--stop", stop, "--rate", rate])
    )
    found = opened.source.items(opened.plan.start_ns, opened.plan.stop_ns, ())
    assert [frame.number for frame in found if isinstance(frame, InputFrame)] == list(frames)


def test_two_cameras_of_different_size_each_have_their_topics_and_their_own_memory(
    drive: Path, replayed: Path, tmp_path: Path
) -> None:
    bag = write_bag(
        tmp_path / "two",
        {
            "/tf_static": [static_transforms()],
            "/front/camera_info": [camera_info(number) for number in range(FRAMES)],
            "/front/image_raw": [image(number) for number in range(FRAMES)],
            "/rear/image_raw": [image(number, picture(number + 50, 60, 80)) for number in range(FRAMES - 2)],
        },
    )
    assert run(bag, tmp_path / "out", "--jobs", "2") == 0
    cameras = {camera["name"]: camera["accounting"]["published"] for camera in summary(tmp_path / "out")["cameras"]}
    assert cameras == {"front": FRAMES, "rear": FRAMES - 2}
    shapes = Counter(
        (f.camera, f.pictures["semantic_mask"].shape) for f in result_frames(Bag(tmp_path / "out" / "bag"))
    )
    assert shapes == {
        ("/perception_node/front/", (96, 128)): FRAMES,
        ("/perception_node/rear/", (60, 80)): FRAMES - 2,
    }
    alone, both = digests(replayed), digests(tmp_path / "out")
    for topic in alone:
        if topic != "/diagnostics":
            assert both[topic.replace("/perception_node/", "/perception_node/front/")] == alone[topic]
    assert run(bag, tmp_path / "one", "--camera", "/front/image_raw") == 0
    assert {t: d for t, d in digests(tmp_path / "one").items() if t != "/diagnostics"} == {
        t: d for t, d in alone.items() if t != "/diagnostics"
    }


@pytest.fixture
def three_cameras(tmp_path: Path) -> tuple[Path, Path]:
    """A bag, and a parameter file whose order is not that of the alphabet."""
    bag = write_bag(tmp_path / "three", {f"/{name}/image_raw": [image(0)] for name in ("left", "front", "right")})
    for name, row in (("front", 90), ("left", 80)):
        mask = np.zeros((96, 128), np.uint8)
        mask[row:] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), mask)
    params = tmp_path / "vehicle.param.yaml"
    params.write_text(
        f"/**:\n  ros__parameters:\n    bundle: {BUNDLE[1]}\n    cameras: [front, right, left]\n"
        "    mounting: {height_m: [1.5], yaw_deg: [0.0, -90.0, 90.0]}\n"
        f"    region: {{ego_mask: ['{tmp_path}/front.png', '', '{tmp_path}/left.png']}}\n"
    )
    return bag, params


@pytest.mark.parametrize(
    "chosen",
    [(), ("--camera", "/right/image_raw", "--camera", "/left/image_raw"), ("--camera", "left=/left/image_raw")],
)
def test_each_camera_has_the_mounting_and_the_ego_mask_that_the_node_gives_it(
    chosen: tuple[str, ...], three_cameras: tuple[Path, Path]
) -> None:
    bag, params = three_cameras
    live = fixed_settings(parameter_values(params, (), "/perception_node"))
    replayed = open_all(make_parser().parse_args([str(bag), "--params", str(params), *chosen])).fixed
    assert len(replayed.cameras) == (len(chosen) // 2 or 3)
    for name, mounting, mask in zip(replayed.cameras, replayed.mountings, replayed.ego_masks, strict=True):
        index = live.cameras.index(name)
        assert mounting == live.mountings[index] is not None
        expected = live.ego_masks[index]
        assert (mask is None) == (expected is None) == (name == "right")
        if mask is not None and expected is not None:
            np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "options",
    [
        ("--camera", "/front/image_raw"),
        ("--camera", "rear=/left/image_raw", "--camera", "/front/image_raw"),
        ("--set", "cameras=['']"),
        ("--set", "cameras=[front, rear, left]"),
    ],
)
def test_values_that_cannot_be_told_to_be_one_cameras_are_refused_and_one_for_all_is_not(
    options: tuple[str, ...], three_cameras: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bag, params = three_cameras
    command = [str(bag), "--out", str(tmp_path / "out"), "--params", str(params), *options]
    assert main(command) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "parameter 'mounting.yaw_deg' has 3 values for the cameras" in said
    assert "--camera NAME=TOPIC" in said
    one = ("--set", "mounting.yaw_deg=0", "--set", "region.ego_mask=''")
    assert open_all(make_parser().parse_args([*command, *one])).fixed.mountings[0] is not None


def test_an_image_size_that_changes_half_way_is_replayed_and_named(tmp_path: Path) -> None:
    frames = [image(number, picture(number, *((96, 128) if number < 4 else (48, 64)))) for number in range(8)]
    assert run(write_bag(tmp_path / "bag", {"/image_raw": frames}), tmp_path / "out") == 0
    (camera,) = summary(tmp_path / "out")["cameras"]
    assert camera["accounting"]["published"] == 8
    assert camera["implausible"] == {"wrong_size": 4}
    assert camera["implausible_because"] == {"wrong_size": "64x48, the first frame had 128x96"}
    shapes = [frame.pictures["semantic_mask"].shape for frame in result_frames(Bag(tmp_path / "out" / "bag"))]
    assert shapes == [(96, 128)] * 4 + [(48, 64)] * 4


def test_a_malformed_frame_is_counted_and_named_and_the_next_one_is_replayed(tmp_path: Path) -> None:
    frames = [image(number) for number in range(4)]
    frames[1].data = frames[1].data[:100]
    frames[2].encoding = "32FC1"
    assert run(write_bag(tmp_path / "bag", {"/image_raw": frames}), tmp_path / "out") == 1
    assert accounting(tmp_path / "out") == {"frames": 4, "published": 2, "malformed": 2}
    (camera,) = summary(tmp_path / "out")["cameras"]
    assert "/image_raw #1: data has 100 bytes" in camera["problems"][0]


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        ({}, "is empty"),
        ({"/tf_static": [static_transforms()]}, "has no camera's topic of the type sensor_msgs/msg/Image"),
        ({"/perception_node/output/semantic/mask": [image(0)]}, "has no camera's topic"),
    ],
)
def test_a_bag_without_images_is_bad_input(
    topics: dict[str, list[Any]], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(write_bag(tmp_path / "bag", topics), tmp_path / "out") == 2
    assert message in " ".join(capfd.readouterr().err.split())


def test_the_bundle_is_that_of_the_option_or_of_the_parameters(drive: Path, tmp_path: Path) -> None:
    params = tmp_path / "vehicle.param.yaml"
    params.write_text(f"/**: {{ros__parameters: {{bundle: {BUNDLES / 'sample_drive'}}}}}")
    command = [str(drive), "--params", str(params)]

    def bundle_of(*options: str) -> str:
        return open_all(make_parser().parse_args([*command, *options])).bundle.folder.name

    assert bundle_of() == "sample_drive"
    assert bundle_of(*BUNDLE) == bundle_of("--set", f"bundle={BUNDLE[1]}") == Path(BUNDLE[1]).name != "sample_drive"


def test_node_and_replay_without_a_bundle_name_the_pages_on_bundles(drive: Path) -> None:
    pages = r".* docs/models\.md .* docs/training\.md"
    with pytest.raises(ReplayError, match=f"no model bundle is given; give its folder with --bundle{pages}"):
        open_all(make_parser().parse_args([str(drive)]))
    with pytest.raises(ParameterError, match=f"parameter 'bundle' is empty{pages}"):
        fixed_settings(parameter_values(None, (), "/perception_node"))


@pytest.mark.parametrize("name", ["bundle", "engine_cache", "region.ego_mask"])
def test_the_home_of_nobody_is_named_with_its_parameter(name: str) -> None:
    changes = ["bundle=b", f"{name}=~no-such-user/b"]
    with pytest.raises(ParameterError, match=f"parameter '{name}' is '~no-such-user/b'"):
        fixed_settings(parameter_values(None, changes, "/perception_node"))


@pytest.mark.parametrize("name", ["region", "anomaly_threshold", "regions"])
def test_nested_aliases_in_a_parameter_file_end_in_a_short_error(name: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    nested = "".join(f"  a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 60))
    file.write_text(f"n:\n  a0: &a0 {{x: 1}}\n{nested}/**: {{ros__parameters: {{{name}: *a59}}}}\n")
    with pytest.raises(SchemaError, match=r"params\.yaml: .*aliases \(\*a0\) are not supported") as caught:
        parameter_values(file, (), "/perception_node")
    assert len(str(caught.value)) < 500


def test_bad_options_are_named_before_anything_starts(
    drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    for options, message in (
        (["--start", "3", "--stop", "1"], "--start 3 is not before --stop 1"),
        (["--start", "1.2"], "--start 1.2: no frame lies there; the last frame of"),
        (["--start", "1.2"], "drive is 1.100 s after the first"),
        (["--start", "1.12", "--stop", "9"], "--start 1.12 --stop 9: no frame lies there"),
        (["--stop", "0"], "--stop 0: no frame lies there"),
        (["--outputs", "masks"], "--outputs holds masks; possible are semantic_mask,"),
        (["--set", "anomaly_treshold=0.5"], "the node has no parameter 'anomaly_treshold'"),
        (["--set", "anomaly_threshold=high"], "parameter 'anomaly_threshold' is 'high', a string; it must be a double"),
        (["--set", "anomaly_threshold=3"], "it must be from -1 to 1"),
        (["--camera", "/left"], "has no image topic '/left'; its image topics are"),
        (["--out", str(tmp_path / "other")], "is not empty and was not written by replay"),
        (["--resume"], "there is no replay to resume"),
        (["--min-anomaly-iou", "0.5"], "a limit is given without --compare"),
        (["--compare", str(tmp_path / "none")], "none: no such file or folder; give the --out of another replay"),
        (["--compare", str(tmp_path / "none.json")], "none.json: is not the summary.json of a replay"),
        (["--compare", str(tmp_path / "out" / "bag")], "holds what is read (--compare:"),
        (["--compare", str(drive)], "holds no results: no topic ends in output/semantic/mask"),
    ):
        assert main([*BUNDLE, str(drive), "--out", str(tmp_path / "out"), *options]) == 2
        assert message in " ".join(capfd.readouterr().err.split())
    assert main([*BUNDLE, str(tmp_path / "nothing.mcap"), "--out", str(tmp_path / "out")]) == 2
    assert "no such file" in capfd.readouterr().err


# -- damage --------------------------------------------------------------------------------------------------------


def damaged(bag: Path, copy: Path, seed: int) -> None:
    """A copy of a bag with 64 bytes overwritten at a random place; every third one is cut there instead."""
    if bag.is_file():
        file = Path(shutil.copy(bag, copy))
    else:
        shutil.copytree(bag, copy)
        (file,) = [f for f in copy.iterdir() if f.suffix in (".mcap", ".db3")]
    data = bytearray(file.read_bytes())
    place = random.Random(seed).randrange(len(data))
    if seed % 3 == 2:
        del data[place:]
    else:
        data[place : place + 64] = random.Random(seed + 1000).randbytes(64)
    file.write_bytes(data)


@pytest.fixture(scope="module")
def long_bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """3.5 MB each, so that an MCAP file has several chunks; of ROS 1 with smaller images."""
    folder = tmp_path_factory.mktemp("long")
    return {
        "mcap": write_drive(folder / "mcap", LONG, size=(192, 256)),
        "sqlite": write_drive(folder / "sqlite", LONG, StoragePlugin.SQLITE3, (192, 256)),
        "ros1": write_ros1_drive(folder / "ros1.bag", LONG),
    }


@pytest.mark.parametrize("storage", ["mcap", "sqlite", "ros1"])
@pytest.mark.parametrize("seed", range(10))
def test_of_a_bag_damaged_at_a_random_place_what_can_be_read_is_replayed_and_the_damage_named(
    storage: str, seed: int, long_bags: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / (f"bag{long_bags[storage].suffix}")
    damaged(long_bags[storage], bag, seed)
    code = main([*BUNDLE, str(bag), "--out", str(tmp_path / "out"), "--outputs", "semantic_mask", "--every", "6"])
    if code == 2:
        # Not even the topics can be read, or no frame is left.
        said = " ".join(capfd.readouterr().err.split())
        assert "cannot be read as a bag" in said or "has no" in said
        return
    found = summary(tmp_path / "out")
    (camera,) = found["cameras"]
    whole = list(result_frames(Bag(tmp_path / "out" / "bag"))) if camera["accounting"]["published"] else []
    assert len(whole) == camera["accounting"]["published"]
    if camera["accounting"]["frames"] < LONG:
        assert found["input"]["damage"]
    assert code == (1 if found["input"]["damage"] or camera["problems"] or not whole else 0)


def test_a_cut_bag_loses_only_what_was_cut(long_bags: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(long_bags["mcap"], tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)
    assert main([*BUNDLE, str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 1
    assert accounting(tmp_path / "out")["published"] >= LONG // 2 - 1
    assert any(
        "ends at byte" in text or "beyond the end" in text for text in summary(tmp_path / "out")["input"]["damage"]
    )


def test_where_no_length_and_no_index_leads_on_the_next_chunk_is_found(
    long_bags: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(long_bags["mcap"], tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    data = bytearray(file.read_bytes())
    # The length of the second chunk: nothing after it can be found by following lengths.
    second = data.index(b"\x06", data.index(b"\x07", 2**20))
    while int.from_bytes(data[second + 1 : second + 9], "little") not in range(2**20, 2**21):
        second = data.index(b"\x06", second + 1)
    data[second + 1 : second + 9] = b"\xff" * 8
    file.write_bytes(data)
    # Its other length still leads to what follows.
    assert main([*BUNDLE, str(tmp_path / "bag"), "--out", str(tmp_path / "indexed")]) == 1
    assert accounting(tmp_path / "indexed") == {"frames": LONG, "published": LONG}
    data[second + 41 : second + 49] = b"\xff" * 8
    file.write_bytes(data[:-8])
    assert main([*BUNDLE, str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 1
    assert LONG - 8 <= accounting(tmp_path / "out")["published"] < LONG


def test_a_bag_without_metadata_is_read_and_that_is_no_damage(drive: Path, replayed: Path, tmp_path: Path) -> None:
    shutil.copytree(drive, tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert run(tmp_path / "bag", tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(replayed)
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert run(tmp_path / "bag", tmp_path / "again") == 1
    assert digests(tmp_path / "again") == digests(replayed)
    assert "metadata.yaml cannot be used" in summary(tmp_path / "again")["input"]["damage"][0]


def test_a_note_leaves_the_exit_code_at_0_and_a_camera_without_frames_makes_it_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "bag", 2)
    (bag / "bag.mcap").rename(bag / "renamed.mcap")
    assert run(bag, tmp_path / "out", "--outputs", "semantic_mask") == 0
    note = "bag/metadata.yaml does not list renamed.mcap; it is read as well"
    assert summary(tmp_path / "out")["input"]["notes"][1] == note
    assert f"note: {note}" in capfd.readouterr().err
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    rear = {"topic_metadata": {"name": "/rear/image_raw", "type": "sensor_msgs/msg/Image"}, "message_count": 0}
    metadata["rosbag2_bagfile_information"]["topics_with_message_count"].append(rear)
    (bag / "metadata.yaml").write_text(json.dumps(metadata))
    assert run(bag, tmp_path / "again", "--outputs", "semantic_mask") == 1
    assert "/rear/image_raw: is a camera's topic without messages" in capfd.readouterr().err


# -- interruption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_replay_leaves_a_bag_and_goes_on_to_the_same_bytes(
    number: signal.Signals, long_bags: dict[str, Path], tmp_path: Path
) -> None:
    options = ["--outputs", "all", *ANOMALOUS, "--frames-per-file", "5"]
    assert main([*BUNDLE, str(long_bags["mcap"]), "--out", str(tmp_path / "whole"), *options]) == 0
    command = [
        sys.executable,
        "-m",
        "ros_ood_perception.replay",
        str(long_bags["mcap"]),
        *BUNDLE,
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    first_file = tmp_path / "out" / "bag" / "metadata.yaml"
    deadline = time.monotonic() + 120
    while not first_file.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    part = len(list(result_frames(Bag(tmp_path / "out" / "bag"))))
    assert 5 <= part < LONG
    assert main([*BUNDLE, str(long_bags["mcap"]), "--out", str(tmp_path / "out"), *options]) == 2
    assert (
        main([*BUNDLE, str(long_bags["mcap"]), "--out", str(tmp_path / "out"), *options, "--resume", "--every", "2"])
        == 2
    )
    assert (
        main([*BUNDLE, str(long_bags["mcap"]), "--out", str(tmp_path / "out"), *options, "--resume", "--jobs", "2"])
        == 0
    )
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert topic_digests(Bag(tmp_path / "out" / "bag")).hex() == digests(tmp_path / "whole")
    assert main([*BUNDLE, str(long_bags["mcap"]), "--out", str(tmp_path / "out"), *options, "--resume"]) == 0


# -- comparison ----------------------------------------------------------------------------------------------------


def test_a_replay_compared_with_itself_is_equal_and_meets_the_strictest_limits(
    drive: Path, replayed: Path, tmp_path: Path
) -> None:
    strict = ["--min-class-agreement", "1", "--min-class-iou", "1", "--min-anomaly-iou", "1"]
    strict += ["--max-score-difference", "0", "--max-obstacles-gained", "0", "--max-obstacles-lost", "0"]
    strict += ["--max-frames-missing", "0"]
    for other in (replayed, replayed / "bag", replayed / "bag" / "bag_0.mcap", replayed / "summary.json"):
        assert run(drive, tmp_path / "out", "--compare", str(other), *strict) == 0
        comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
        assert comparison["limits_broken"] == []
        assert not comparison.get("worst_frames")


def test_a_change_is_measured_pictured_and_stopped_by_a_limit(drive: Path, replayed: Path, tmp_path: Path) -> None:
    changed = ["--set", "anomaly_threshold=0.5", "--compare", str(replayed)]
    assert run(drive, tmp_path / "out", *changed) == 0
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert comparison["frames"] == FRAMES
    assert comparison["class_agreement"] == 1.0
    assert comparison["score_difference"] == 0.0
    masks = [
        [f.pictures["anomaly_mask"] > 0 for f in result_frames(Bag(o / "bag"))] for o in (replayed, tmp_path / "out")
    ]
    both = np.count_nonzero(np.array(masks[0]) & np.array(masks[1]))
    either = np.count_nonzero(np.array(masks[0]) | np.array(masks[1]))
    assert comparison["anomaly_iou"] == pytest.approx(both / either)
    assert comparison["anomaly_iou"] < 1
    assert comparison["worst_frames"]
    for frame in comparison["worst_frames"]:
        shown = cv2.imread(str(tmp_path / "out" / frame["picture"]))
        # Two rows of two parts, each with a title, and above and below them lines of text.
        assert shown.shape[1] == 2 * 640
        assert 2 * (480 + 26) + 2 * 26 <= shown.shape[0] <= 2 * (480 + 26) + 4 * 26
        enlarged = cv2.resize(
            picture((frame["stamp_ns"] - START_NS) // STEP_NS), (640, 480), interpolation=cv2.INTER_NEAREST
        )
        np.testing.assert_array_equal(shown[52 : 52 + 480, :640], enlarged)
    # The frames of the drive are less than 2 s apart in one scene.
    assert len(comparison["worst_frames"]) == 1
    changes = [frame["changed"] for frame in comparison["worst_frames"]]
    assert changes == sorted(changes, reverse=True)
    assert run(drive, tmp_path / "out", *changed, "--min-anomaly-iou", "0.999") == 1


def test_with_only_a_summary_it_is_said_that_no_more_than_equality_can_be_told(
    drive: Path, replayed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = ["--set", "anomaly_threshold=0.5", "--compare", str(replayed / "summary.json")]
    assert run(drive, tmp_path / "out", *changed) == 0
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert "/perception_node/output/anomaly/mask" in comparison["different_topics"]
    assert "which frames differ, where and by how much is unknown" in " ".join(capfd.readouterr().err.split())
    assert run(drive, tmp_path / "out", *changed, "--min-anomaly-iou", "0.1") == 1
    assert "--min-anomaly-iou 0.1 cannot be checked" in " ".join(capfd.readouterr().err.split())


def test_frames_that_are_missing_are_counted(drive: Path, replayed: Path, tmp_path: Path) -> None:
    options = ["--stop", "0.5", "--compare", str(replayed), "--max-frames-missing", "3"]
    assert run(drive, tmp_path / "out", *options) == 1
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (comparison["frames"], comparison["only_here"], comparison["only_there"]) == (5, 0, FRAMES - 5)


def test_the_rerun_viewer_gets_every_frame_and_changes_no_byte(drive: Path, replayed: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed", exc_type=ImportError)
    assert run(drive, tmp_path / "out", "--rerun", str(tmp_path / "out.rrd")) == 0
    assert (tmp_path / "out.rrd").read_bytes()[:4] == b"RRF2"
    assert digests(tmp_path / "out") == digests(replayed)


def test_without_rerun_it_is_said_what_to_install(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.delitem(sys.modules, "ros_ood_perception.replay.rerun_viewer", raising=False)
    assert run(drive, tmp_path / "out", "--rerun", str(tmp_path / "out.rrd")) == 2
    assert "pip install" in capfd.readouterr().err
