"""Which topics of a bag are cameras: of a depth camera its colour image, by the encoding of the first image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recorded_drive import BUNDLE, header, image, write_bag

from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.cameras import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    CameraChoiceError,
    choose_cameras,
    unread_cameras,
)
from ros_ood_perception.replay.command_line.main import main
from ros_ood_perception.replay.inputs import open_input

REALSENSE = {
    "/camera/camera/color/image_raw": "rgb8",
    "/camera/camera/depth/image_rect_raw": "16UC1",
    "/camera/camera/aligned_depth_to_color/image_raw": "16UC1",
    "/camera/camera/infra1/image_rect_raw": "mono8",
    "/camera/camera/infra2/image_rect_raw": "mono8",
}
ZED = {
    "/zed/zed_node/rgb/image_rect_color": "bgra8",
    "/zed/zed_node/rgb_gray/image_rect_gray": "mono8",
    "/zed/zed_node/depth/depth_registered": "32FC1",
    "/zed/zed_node/confidence/confidence_map": "32FC1",
}
OAK = {
    "/oak/rgb/image_raw": "bgr8",
    "/oak/left/image_raw": "mono8",
    "/oak/right/image_raw": "mono8",
    "/oak/stereo/image_raw": "16UC1",
}
KINECT = {
    "/rgb/image_raw": "bgra8",
    "/depth/image_raw": "32FC1",
    "/depth_to_rgb/image_raw": "16UC1",
    "/ir/image_raw": "mono16",
    "/ir_mono/image_raw": "mono8",
}


@pytest.mark.parametrize(
    ("encodings", "colour"),
    [
        (REALSENSE, "/camera/camera/color/image_raw"),
        (ZED, "/zed/zed_node/rgb/image_rect_color"),
        (OAK, "/oak/rgb/image_raw"),
        (KINECT, "/rgb/image_raw"),
    ],
    ids=["realsense", "zed", "oak", "kinect"],
)
def test_of_a_depth_camera_the_colour_topic_is_taken_and_the_others_are_named(
    encodings: dict[str, str], colour: str
) -> None:
    types = dict.fromkeys(encodings, IMAGE_TYPE)
    choice = choose_cameras(types, [], "drive", None, encodings.__getitem__)
    assert [camera.image for camera in choice.cameras] == [colour]
    assert choice.left_out.keys() == encodings.keys() - {colour}
    assert all(encodings[topic] in reason for topic, reason in choice.left_out.items())


def test_the_encoding_decides_and_not_the_name() -> None:
    encodings = {"/depth_camera/image_raw": "bgr8", "/front/image_raw": "16UC1", "/infra/image_raw": "rgb8"}
    choice = choose_cameras(dict.fromkeys(encodings, IMAGE_TYPE), [], "drive", None, encodings.__getitem__)
    assert [camera.image for camera in choice.cameras] == ["/depth_camera/image_raw", "/infra/image_raw"]


def test_grey_cameras_and_those_of_unknown_encoding_are_cameras() -> None:
    encodings = {"/front/image_raw": "rgb8", "/rear/image_raw": "mono8", "/left/image_raw": "", "/oak/rgb/x": "16UC1"}
    encodings |= {"/oak/left/image_raw": "mono8"}
    choice = choose_cameras(dict.fromkeys(encodings, IMAGE_TYPE), [], "drive", None, encodings.__getitem__)
    assert set(choice.left_out) == {"/oak/rgb/x"}


def test_a_chosen_topic_is_taken_whatever_its_encoding() -> None:
    types = dict.fromkeys(REALSENSE, IMAGE_TYPE) | {"/x/compressed": COMPRESSED_TYPE}
    wanted = ["/camera/camera/infra1/image_rect_raw"]
    choice = choose_cameras(types, wanted, "drive", None, REALSENSE.__getitem__)
    assert ([camera.image for camera in choice.cameras], choice.left_out) == (wanted, {})


def test_a_bag_of_depth_alone_is_refused_with_the_reason_and_the_option() -> None:
    with pytest.raises(CameraChoiceError, match=r"/a: its images are 16UC1, .*--camera TOPIC takes one all the same"):
        choose_cameras({"/a": IMAGE_TYPE}, [], "drive", None, lambda topic: "16UC1")


def test_a_replay_of_a_depth_cameras_bag_takes_the_colour_topic_and_ends_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    depth, infrared = [image(0), image(1)], [image(0), image(1)]
    for message in depth:
        message.encoding, message.step = "16UC1", message.width * 2
        message.data = np.zeros(message.height * message.step, np.uint8)
    for message in infrared:
        message.encoding, message.step = "mono8", message.width
        message.data = np.zeros(message.height * message.step, np.uint8)
    topics = {
        "/camera/camera/color/image_raw": [image(0), image(1)],
        "/camera/camera/depth/image_rect_raw": depth,
        "/camera/camera/infra1/image_rect_raw": infrared,
    }
    bag = write_bag(tmp_path / "bag", topics)
    command = [str(bag), "--out", str(tmp_path / "out"), "--engine", "onnxruntime", "--outputs", "anomaly_mask"]
    assert main([*BUNDLE, *command]) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "1 camera(s): /camera/camera/color/image_raw" in said
    assert "/camera/camera/depth/image_rect_raw: is not taken for a camera: its images are 16UC1" in said
    assert "grey, and its name says infrared; --camera [NAME=]TOPIC chooses" in said
    left_out = json.loads((tmp_path / "out" / "summary.json").read_text())["input"]["not_cameras"]
    assert list(left_out) == ["/camera/camera/depth/image_rect_raw", "/camera/camera/infra1/image_rect_raw"]


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("/rear/video", "foxglove_msgs/msg/CompressedVideo"),
        ("/rear/image", "foxglove_msgs/msg/RawImage"),
        ("/rear/image_raw/ffmpeg", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"),
        ("/rear/image_raw/theora", "theora_image_transport/msg/Packet"),
        ("/rear/image_raw/zstd", COMPRESSED_TYPE),
        ("/rear/h264", "h264_msgs/msg/Packet"),
    ],
)
def test_a_camera_whose_pictures_are_not_read_is_named_unless_they_are_there_in_another_form(
    topic: str, kind: str
) -> None:
    other = {"/front/image_raw": IMAGE_TYPE}
    [said] = unread_cameras({**other, topic: kind})
    assert said.startswith(f"{topic}: a camera's pictures as {kind} are not read")
    with pytest.raises(CameraChoiceError, match=f"{topic}: a camera's pictures as {kind} are not read"):
        choose_cameras({topic: kind}, [], "drive")
    for beside in (topic.rpartition("/")[0], f"{topic.rpartition('/')[0]}/compressed"):
        assert unread_cameras({**other, topic: kind, beside: IMAGE_TYPE}) == []


def test_measurements_and_events_are_no_cameras_whose_pictures_are_not_read() -> None:
    kinds = (
        "stereo_msgs/msg/DisparityImage",
        "event_camera_msgs/msg/EventPacket",
        "foxglove_msgs/msg/ImageAnnotations",
    )
    assert unread_cameras({f"/topic_{number}": kind for number, kind in enumerate(kinds)}) == []


def test_a_replay_notes_the_camera_that_it_cannot_read(tmp_path: Path) -> None:
    zstd = message_types()("sensor_msgs/msg/CompressedImage", header=header(0), format="zstd")
    bag = write_bag(tmp_path / "bag", {"/front/image_raw": [image(0)], "/rear/image_raw/zstd": [zstd]})
    [note] = open_input(bag, [], 10.0).notes
    assert "/rear/image_raw/zstd" in note
    assert open_input(bag, ["/front/image_raw"], 10.0).notes == []
