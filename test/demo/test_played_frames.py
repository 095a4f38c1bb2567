from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded_drive import START_NS, STEP_NS, camera_info, header, image, picture, static_transforms, write_bag
from rosbags.rosbag2 import Writer

from demo.played_frames import open_frames
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.inputs import open_input


def bag_with_a_cut_message(path: Path, cut_topic: str) -> Path:
    """Four frames with calibration and pose; the third message of `cut_topic`, or its last one, is cut."""
    messages: dict[str, list[Any]] = {
        "/tf_static": [static_transforms()],
        "/front/camera_info": [camera_info(number) for number in range(4)],
        "/front/image_raw": [image(number) for number in range(4)],
    }
    types = message_types()
    with Writer(path, version=9) as writer:
        for topic, listed in messages.items():
            connection = writer.add_connection(topic, listed[0].__msgtype__, typestore=types.typestore)
            for number, message in enumerate(listed):
                raw = bytes(types.serialized(message))
                cut = topic == cut_topic and number == min(2, len(listed) - 1)
                writer.write(connection, START_NS + number * STEP_NS, raw[:30] if cut else raw)
    return path


@pytest.mark.parametrize("topic", ["/front/camera_info", "/tf_static"])
def test_a_broken_message_of_another_topic_is_not_an_unreadable_frame(topic: str, tmp_path: Path) -> None:
    frames = open_frames(bag_with_a_cut_message(tmp_path / "drive", topic))
    assert len(list(frames)) == 4
    assert frames.unreadable == []


def test_a_broken_image_is_left_out_and_named(tmp_path: Path) -> None:
    frames = open_frames(bag_with_a_cut_message(tmp_path / "drive", "/front/image_raw"))
    for _ in range(2):
        assert [frame.name for frame in frames] == [f"/front/image_raw #{number}" for number in (0, 1, 3)]
        assert len(frames.unreadable) == 1
        assert frames.unreadable[0].startswith("drive: a message on /front/image_raw cannot be read as sensor_msgs")


@pytest.mark.parametrize("name", ["drive.bag", "drive.mcap", "drive.db3"])
def test_a_folder_of_images_may_have_the_name_of_a_bag(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0))
    frames = open_frames(folder)
    assert frames.kind == "folder of images"
    assert [frame.name for frame in frames] == ["0.png"]
    assert open_input(folder, [], 10.0).kind == "folder of images"


def compressed_image(number: int) -> Any:
    data = cv2.imencode(".jpg", picture(number))[1].ravel()
    return message_types()("sensor_msgs/msg/CompressedImage", header=header(number), format="jpeg", data=data)


def test_a_bag_with_compressed_frames_only_is_played_as_the_node_sees_them(tmp_path: Path) -> None:
    frames = open_frames(
        write_bag(
            tmp_path / "drive", {"/front/image_raw/compressed": [compressed_image(number) for number in range(3)]}
        )
    )
    assert (frames.compressed, frames.topic, frames.other_cameras) == (True, "/front/image_raw/compressed", ())
    for number, frame in enumerate(frames):
        data = np.asarray(frame.message.data, np.uint8)
        np.testing.assert_array_equal(frames.colour(frame.message, "bgr"), cv2.imdecode(data, cv2.IMREAD_COLOR))
        assert number < 3


def test_of_several_cameras_the_first_is_played_and_the_others_are_named(tmp_path: Path) -> None:
    bag = write_bag(
        tmp_path / "drive",
        {
            "/rear/image_raw/compressed": [compressed_image(0)],
            "/front/image_raw": [image(0)],
            "/front/image_raw/compressed": [compressed_image(0)],
            "/perception_node/output/semantic/mask": [image(0)],
        },
    )
    frames = open_frames(bag)
    assert (frames.topic, frames.compressed) == ("/front/image_raw", False)
    assert frames.other_cameras == ("/rear/image_raw/compressed",)
    assert open_frames(bag, "/rear/image_raw/compressed").other_cameras == ("/front/image_raw",)
