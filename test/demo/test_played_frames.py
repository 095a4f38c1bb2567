from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from recorded_drive import START_NS, STEP_NS, camera_info, image, picture, static_transforms
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
