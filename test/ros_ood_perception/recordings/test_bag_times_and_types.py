"""Times that are none, and messages of another type than their name says: named, and the rest is given."""

from __future__ import annotations

import math
import sqlite3
import struct
from pathlib import Path
from typing import Any

import cv2
import mcap_parts as parts
import numpy as np
import pytest
from mcap_parts import IMAGE, TOPIC, channel, frame_numbers, images, mcap, schema
from recorded_drive import START_NS, STEP_NS, write_drive
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.image_sequence import Video, open_sequence
from ros_ood_perception.replay.inputs import InputCopy, InputFrame, InputInfo, open_input

DEFINITION = parts.definition()


# -- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad_ns", [3_000_000_000_000_000_000, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_log_time_that_ros_cannot_hold_is_named_and_the_rest_is_given(
    bad_ns: int, chunked: bool, tmp_path: Path
) -> None:
    listed = [*images(range(2)), parts.message(bad_ns, parts.image(9)), *images(range(2, 4))]
    contents = b"".join(listed)
    data = parts.chunk(contents, START_NS, bad_ns) if chunked else contents
    path = tmp_path / "a.mcap"
    path.write_bytes(mcap(schema() + channel() + data))
    source = open_input(path, [], 10.0)
    times = [item.time_ns for item in source.items(None, None, [TOPIC]) if isinstance(item, InputFrame)]
    assert [(time_ns - START_NS) // STEP_NS for time_ns in times] == [0, 1, 2, 3]
    assert source.damage == [
        f"a.mcap: 1 messages on {TOPIC} have a time that ROS cannot hold (before 1970 or after January 2038)"
    ]


def test_a_negative_time_in_sqlite_is_named_and_the_rest_is_given(tmp_path: Path) -> None:
    folder = write_drive(tmp_path / "bag", 4, StoragePlugin.SQLITE3, (24, 32))
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE messages SET timestamp = -5 WHERE id = 3")
        connection.execute("UPDATE messages SET timestamp = 'soon' WHERE id = 5")
    connection.close()
    bag = Bag(folder)
    assert frame_numbers(bag.messages(["/front/image_raw", "/front/camera_info"])) == [0, 1, 2, 2, 3, 3]
    said = "\n".join(bag.damage)
    assert "1 messages on /front/image_raw have a time that ROS cannot hold" in said
    assert "1 messages have no topic, or no time" in said


def _avi(path: Path, scale: int, rate: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(6):
        writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, data.index(b"strh") + 28, scale, rate)
    path.write_bytes(data)
    return path


def test_frames_of_a_video_with_a_senseless_time_scale_are_named_and_the_rest_is_given(tmp_path: Path) -> None:
    whole = open_sequence(_avi(tmp_path / "whole.avi", 1, 10))
    assert [frame.time_ns for frame in whole] == [n * 100_000_000 for n in range(6)]
    assert whole.unreadable == []
    for scale, rate in ((2**32 - 1, 1), (1, 2**31 - 1)):
        video = Video(_avi(tmp_path / f"{rate}.avi", scale, rate))
        times = [frame.time_ns or 0 for frame in video]
        assert times[0] == 0
        assert times == sorted(set(times))
        assert f"{6 - len(times)} of 6 frames, which have no time" in video.unreadable[0]


@pytest.mark.parametrize("milliseconds", [math.nan, math.inf, -math.inf, -1.0, 1e18])
def test_what_is_no_time_of_a_frame_is_none(milliseconds: float) -> None:
    from ros_ood_perception.recordings.image_sequence import _video_time_ns

    assert _video_time_ns(milliseconds) is None
    assert _video_time_ns(40.0) == 40_000_000


# -- types -----------------------------------------------------------------------------------------------------------


def _redefined(definition: str, **fields: Any) -> list[bytes]:
    """Message records of an image as that definition has it."""
    store = Typestore()
    store.register(get_types_from_msg(definition, IMAGE))
    stamp = store.types["builtin_interfaces/msg/Time"](sec=1_700_000_000, nanosec=0)
    given = {
        "header": store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera"),
        "height": 4,
        "width": 4,
        "encoding": "bgr8",
        "is_bigendian": 0,
        "step": 12,
        "data": np.zeros(48, np.uint8),
        **fields,
    }
    message = store.types[IMAGE](**{name: value for name, value in given.items() if value is not None})
    return [parts.message(START_NS, bytes(store.serialize_cdr(message, IMAGE)))]


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("uint32 width", "int32 width", {"width": -1}),
        ("uint32 height", "float64 height", {"height": math.nan}),
        ("uint32 height", "string height", {"height": "4"}),
        ("string encoding\n", "", {"encoding": None}),
        ("string encoding", "uint32 encoding", {"encoding": 5}),
        ("uint8[] data", "string data", {"data": "x" * 48}),
        ("uint32 height\nuint32 width", "uint32 width\nuint32 height", {}),
        ("int32 sec", "int64 sec", {}),
    ],
)
def test_an_image_that_is_defined_otherwise_is_malformed_and_says_how_it_differs(
    old: str, new: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    assert old in DEFINITION
    other = DEFINITION.replace(old, new, 1)
    path = tmp_path / "a.mcap"
    path.write_bytes(mcap(schema(written=other) + channel() + b"".join(_redefined(other, **fields))))
    source = open_input(path, [], 10.0)
    (item,) = source.items(None, None, [])
    assert isinstance(item, InputFrame)
    assert item.message is None
    assert "cannot be read as sensor_msgs/msg/Image: its definition of" in item.problem
    assert source.copied == {}
    assert source.damage == [f"{TOPIC}: is not copied, as the definition of {IMAGE} cannot be written"]


@pytest.mark.parametrize(
    "definition",
    [
        DEFINITION,
        "# a comment\n" + DEFINITION.replace("\n", "  # why\n"),
        DEFINITION.replace("uint8[] data", "uint8[<=1000000] data").replace("string encoding", "string<=20 encoding"),
        "uint8 SIZE=4\nstring NAME='x'\n" + DEFINITION,
        DEFINITION[: DEFINITION.index("=")],
        "((((((\n",
        "",
    ],
    ids=["same", "comments", "bounds", "constants", "without nested types", "damaged", "none"],
)
def test_an_image_whose_definition_is_the_known_one_or_cannot_be_compared_is_read(
    definition: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(mcap(schema(written=definition) + channel() + b"".join(images(range(2)))))
    bag = Bag(path)
    assert [bag.deserialize(message).width for message in bag.messages([TOPIC])] == [8, 8]
    assert bag.damage == []


def test_a_calibration_and_transforms_that_are_defined_otherwise_are_named(tmp_path: Path) -> None:
    info, transforms = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
    data = schema() + channel()
    for number, (topic, kind, old, new) in enumerate(
        (
            ("/cam/camera_info", info, "float64[9] k", "float32[9] k"),
            ("/tf_static", transforms, "float64 x", "float32 x"),
        ),
        2,
    ):
        assert old in parts.definition(kind)
        data += schema(number, kind, parts.definition(kind).replace(old, new, 1)) + channel(number, topic, number)
        data += parts.message(START_NS, bytes(range(90)), number)
    (tmp_path / "a.mcap").write_bytes(mcap(data + b"".join(images([1]))))
    source = open_input(tmp_path / "a.mcap", [], 10.0)
    kinds = [type(item) for item in source.items(None, None, [])]
    assert InputInfo not in kinds
    assert kinds.count(InputFrame) == 1
    said = "\n".join(source.damage)
    assert "a message on /cam/camera_info cannot be read as sensor_msgs/msg/CameraInfo: its definition" in said
    assert "a message on /tf_static cannot be read as tf2_msgs/msg/TFMessage: its definition" in said


def test_types_that_are_not_known_here_are_copied_with_their_definitions(tmp_path: Path) -> None:
    own = "a/Part[3] parts\nstring[30000000] names\nuint8 LIMIT=3\n" + "=" * 80 + "\nMSG: a/Part\nfloat64[<=4] x\n"
    recursive = "a/Loop next\n" + "=" * 80 + "\nMSG: a/Loop\na/Loop next\n"
    data = schema() + channel()
    for number, (kind, text) in enumerate((("a/msg/Whole", own), ("a/msg/Loop", recursive), ("a/msg/No", "((\n")), 2):
        data += schema(number, kind, text) + channel(number, f"/{number}", number)
        data += parts.message(START_NS, b"\0\1\0\0", number)
    (tmp_path / "a.mcap").write_bytes(mcap(data + b"".join(images([1]))))
    source = open_input(tmp_path / "a.mcap", [], 10.0)
    assert source.copied == {TOPIC: IMAGE, "/2": "a/msg/Whole"}
    assert "float64[<=4] x" in source.typestore.generate_msgdef("a/msg/Whole", ros_version=2)[0]
    copies = [item.topic for item in source.items(None, None, source.copied) if isinstance(item, InputCopy)]
    assert copies == ["/2", TOPIC]
    assert [text.split(":")[0] for text in source.damage] == ["/3", "/4"]


def test_a_topic_with_two_types_is_read_as_one_of_them_and_named(tmp_path: Path) -> None:
    data = schema() + channel() + schema(2, "sensor_msgs/msg/CameraInfo") + channel(2, TOPIC, 2)
    (tmp_path / "a.mcap").write_bytes(mcap(data + b"".join([*images([0]), *images([1], 2)])))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages(bag.types)) == [0]
    assert "has several types" in bag.damage[0]
    (tmp_path / "b.mcap").write_bytes(mcap(schema() + channel()))
    with pytest.raises(BagError, match="has no messages"):
        open_input(tmp_path / "b.mcap", [], 10.0)
