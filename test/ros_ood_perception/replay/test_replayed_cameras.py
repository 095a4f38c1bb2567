"""Replays of recordings whose cameras are not the usual one: encodings, and calibrations from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from calibration_files import calibration_text
from raw_scenes import message
from recorded_drive import BUNDLE, camera_info, header, image, picture, static_transforms, write_bag

from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.command_line.main import main
from ros_ood_perception.replay.command_line.opening import open_all
from ros_ood_perception.replay.command_line.options import make_parser
from ros_ood_perception.replay.inputs import InputInfo
from ros_ood_perception.replay.problems import warnings

FRAMES = 3
INFOS = [camera_info(number) for number in range(FRAMES)]
IMAGES = [image(number) for number in range(FRAMES)]
POSE = {"/tf_static": [static_transforms()]}
KINDS = ("8UC3", "mono16", "rgba16", "bayer_grbg16", "yuv422_yuy2", "nv21", "nv24")
ON_THE_GROUND = ("--outputs", "obstacles,free_ground", "--set", "region.drivable_classes=['road']")


@pytest.fixture
def replayed(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Replays topics, and returns the summary of the first camera with `digests` of the results."""
    count = 0

    def run(topics: dict[str, Sequence[Any]] | Path, *options: str) -> dict[str, Any]:
        nonlocal count
        count += 1
        source = topics if isinstance(topics, Path) else write_bag(tmp_path / f"bag_{count}", topics)
        out = tmp_path / f"out_{count}"
        code = main([*BUNDLE, str(source), "--out", str(out), "--threads", "1", "--engine", "onnxruntime", *options])
        assert code == 0
        summary = json.loads((out / "summary.json").read_text())
        digests = {topic: facts["sha256"] for topic, facts in summary["topics"].items() if topic != "/diagnostics"}
        return {**summary["cameras"][0], "digests": digests}

    return run


def test_an_encoding_of_each_kind_is_replayed(replayed: Callable[..., dict[str, Any]]) -> None:
    """Of every encoding: test_raw_image.py."""
    frames = []
    for number, name in enumerate(KINDS):
        plain = message(name, padding=3, big_endian=bool(number % 2))
        fields = ("height", "width", "encoding", "step", "data", "is_bigendian")
        values = {field: getattr(plain, field) for field in fields}
        frames.append(message_types()("sensor_msgs/msg/Image", header=header(number), **values))
    found = replayed({"/front/image_raw": frames}, "--outputs", "semantic_mask")
    assert found["accounting"]["published"] == found["accounting"]["frames"] == len(KINDS)


@pytest.mark.parametrize("source", ["topic", "file"])
def test_a_calibration_from_elsewhere_gives_what_the_one_beside_the_images_gives(
    source: str, replayed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    beside = replayed({**POSE, "/front/camera_info": INFOS, "/front/image_raw": IMAGES}, *ON_THE_GROUND)
    assert beside["ground"] == "known"
    (tmp_path / "front.yaml").write_text(calibration_text(INFOS[0]))
    topics = {**POSE, "/front/image_raw": IMAGES}
    if source == "topic":
        found = replayed(
            {**topics, "/calibrations/front": INFOS},
            *ON_THE_GROUND,
            *("--set", "calibration.camera_info_topic=/calibrations/front"),
        )
    else:
        # The recorded one is of other images, and is not used.
        wrong = [camera_info(number, 10, 10) for number in range(FRAMES)]
        found = replayed(
            {**topics, "/front/camera_info": wrong},
            *ON_THE_GROUND,
            *("--set", f"calibration.file={tmp_path / 'front.yaml'}"),
        )
    assert found["ground"] == "known"
    assert found["digests"] == beside["digests"]
    assert "/perception_node/output/ground/free" in found["digests"]


def test_a_folder_of_images_has_a_ground_with_a_calibration_file(
    replayed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0))
    mounted = (*ON_THE_GROUND, "--set", "mounting.height_m=1.5")
    assert replayed(folder, *mounted)["ground"] == "a folder of images has no camera_info; set calibration.file"
    (tmp_path / "front.yaml").write_text(calibration_text(INFOS[0]))
    assert replayed(folder, *mounted, "--set", f"calibration.file={tmp_path / 'front.yaml'}")["ground"] == "known"


@pytest.mark.parametrize(
    ("topics", "options", "said"),
    [
        (
            {"/lens": INFOS},
            (),
            "nothing was recorded on /front/camera_info; set calibration.camera_info_topic to one of the recording's "
            "(/lens), or calibration.file",
        ),
        (
            {},
            (),
            "nothing was recorded on /front/camera_info; set calibration.camera_info_topic to its topic, or "
            "calibration.file",
        ),
        (
            {"/front/camera_info": INFOS},
            ("--set", "calibration.camera_info_topic=/lens"),
            "nothing was recorded on /lens; set calibration.camera_info_topic to one of the recording's "
            "(/front/camera_info), or calibration.file",
        ),
    ],
)
def test_a_missing_calibration_is_named_with_those_that_were_recorded(
    topics: dict[str, Any], options: tuple[str, ...], said: str, replayed: Callable[..., dict[str, Any]]
) -> None:
    found = replayed({**POSE, **topics, "/front/image_raw": IMAGES[:1]}, *ON_THE_GROUND, *options)
    assert found["ground"] == said


def test_topics_and_files_go_to_their_cameras_by_name(tmp_path: Path) -> None:
    """The bag's order is that of the alphabet, the parameter's is another."""
    topics = {
        "/a/image_raw": IMAGES,
        "/b/image_raw": IMAGES,
        "/lens/a": INFOS[:1],
        "/b/camera_info": INFOS[:1],
    }
    bag = write_bag(tmp_path / "bag", topics)
    (tmp_path / "b.yaml").write_text(calibration_text(camera_info(0, 48, 64)))
    changes = (
        "cameras=[b, a]",
        "calibration.camera_info_topic=['', /lens/a]",
        f"calibration.file=[{tmp_path / 'b.yaml'}, '']",
    )
    opened = open_all(
        make_parser().parse_args([*BUNDLE, str(bag), *(part for change in changes for part in ("--set", change))])
    )
    assert [(camera.name, camera.info) for camera in opened.source.cameras] == [("a", "/lens/a"), ("b", "")]
    assert list(opened.source.first_infos) == [0]
    assert [item.camera for item in opened.source.items(None, None, ()) if isinstance(item, InputInfo)] == [0]
    heights = [c and c.height for c in (opened.fixed.camera_setup(number).calibration for number in (0, 1))]
    assert heights == [None, 48]


def test_two_image_topics_beside_one_calibration_both_have_it(tmp_path: Path) -> None:
    topics = {"/front/image_raw": IMAGES, "/front/image_color": IMAGES, "/front/camera_info": INFOS}
    opened = open_all(make_parser().parse_args([*BUNDLE, str(write_bag(tmp_path / "bag", topics))]))
    assert sorted(opened.source.first_infos) == [0, 1]
    found = [item.camera for item in opened.source.items(None, None, ()) if isinstance(item, InputInfo)]
    assert sorted(found) == [0] * FRAMES + [1] * FRAMES


def test_the_calibration_file_is_not_overwritten_by_the_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", {"/front/image_raw": IMAGES})
    out = tmp_path / "out"
    out.mkdir()
    (out / "front.yaml").write_text(calibration_text(INFOS[0]))
    assert main([*BUNDLE, str(bag), "--out", str(out), "--set", f"calibration.file={out / 'front.yaml'}"]) == 2
    assert "calibration.file" in " ".join(capfd.readouterr().err.split())


DISTORTED = [camera_info(number) for number in range(FRAMES)]
for _info in DISTORTED:
    _info.d = np.array([-0.2, 0.1, 0.0, 0.0, 0.0])


def _said(path: Path, topics: Mapping[str, Sequence[Any]], *options: str) -> list[str]:
    """Notes of the recording and warnings about each camera; the replay ends with 0."""
    bag = write_bag(path / "odd", topics)
    command = [str(bag), "--out", str(path / "odd_out"), "--threads", "1", "--engine", "onnxruntime"]
    assert main([*BUNDLE, *command, *ON_THE_GROUND, *options]) == 0
    summary = json.loads((path / "odd_out" / "summary.json").read_text())
    return [*summary["input"]["notes"], *(text for camera in summary["cameras"] for text in warnings(camera))]


@pytest.mark.parametrize(
    ("topic", "infos", "options", "warned"),
    [
        ("/front/image_rect_color", DISTORTED, (), True),
        ("/zed/left/color/rect/image", DISTORTED, (), True),
        ("/front/image_rect_color", DISTORTED, ("--set", "ground.rectified_images=true"), False),
        ("/front/image_rect", INFOS, (), False),
        ("/front_direct/image_raw", DISTORTED, (), False),
    ],
)
def test_rectified_images_that_are_taken_for_raw_ones_are_named(
    topic: str, infos: Sequence[Any], options: Sequence[str], warned: bool, tmp_path: Path
) -> None:
    info_topic = f"{topic.rpartition('/')[0]}/camera_info"
    said = _said(tmp_path, {**POSE, info_topic: infos, topic: IMAGES}, *options)
    assert [text.partition(" ")[0] for text in said] == ([topic] if warned else [])
    assert not warned or "set ground.rectified_images to true" in said[0]


@pytest.mark.parametrize(
    ("rear", "options", "warned"),
    [
        ("/rear/image_raw", (), 2),
        ("/front/image_color", (), 0),  # the same camera
        ("/rear/image_raw", ("--set", "mounting.height_m=[1.5]"), 0),
    ],
)
def test_cameras_that_are_placed_with_one_pose_because_they_share_a_frame_id_are_named(
    rear: str, options: Sequence[str], warned: int, tmp_path: Path
) -> None:
    infos = {"/front/camera_info": INFOS, f"{rear.rpartition('/')[0]}/camera_info": INFOS}
    said = _said(tmp_path, {**POSE, **infos, "/front/image_raw": IMAGES, rear: IMAGES}, *options)
    assert len(said) == warned
    assert all("frame_id 'camera_optical'" in text and "same pose" in text for text in said)


def test_frames_without_a_place_on_the_ground_are_counted_also_if_the_last_frame_has_one(tmp_path: Path) -> None:
    frames = [image(number) for number in range(FRAMES)]
    frames[1].header.frame_id = "elsewhere"
    [said] = _said(tmp_path, {**POSE, "/front/camera_info": INFOS, "/front/image_raw": frames})
    assert said.startswith("in 1 of 3 frames obstacles have no place on the ground: no transform from 'elsewhere'")


def test_stamps_that_go_back_are_named(tmp_path: Path) -> None:
    [said] = _said(tmp_path, {**POSE, "/front/camera_info": INFOS, "/front/image_raw": IMAGES[::-1]})
    assert said.startswith("2 of 3 frames of /front/image_raw have a stamp that is not after that of the frame before")


def test_a_pose_that_changes_on_tf_static_is_named_and_one_that_is_repeated_is_not(tmp_path: Path) -> None:
    changed = static_transforms()
    changed.transforms[0].transform.translation.z = 1.7
    topics = {"/front/camera_info": INFOS, "/front/image_raw": IMAGES}
    again = {"/tf_static": [static_transforms(), static_transforms()]}
    (tmp_path / "again").mkdir()
    assert _said(tmp_path / "again", {**again, **topics}) == []
    [said] = _said(tmp_path, {"/tf_static": [static_transforms(), changed], **topics})
    assert said.startswith("/tf_static gives the pose of 'mast' in 'base_link' with several values; the last one is")


@pytest.mark.parametrize(
    ("w", "frame_id", "reason"),
    [
        (5.0, "camera_optical", "the transform of 'camera_optical' on /tf_static cannot be used: the rotation"),
        (0.5, "", "header.frame_id of the images is empty"),
    ],
)
def test_a_pose_that_cannot_be_used_is_not_said_to_be_missing(
    w: float, frame_id: str, reason: str, tmp_path: Path
) -> None:
    pose, frames = static_transforms(), [image(number) for number in range(FRAMES)]
    pose.transforms[1].transform.rotation.w = w
    for frame in frames:
        frame.header.frame_id = frame_id
    topics = {"/tf_static": [pose], "/front/camera_info": INFOS, "/front/image_raw": frames}
    assert any(reason in text for text in _said(tmp_path, topics))
