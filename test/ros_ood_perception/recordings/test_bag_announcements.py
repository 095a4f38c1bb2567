"""What is read of a bag is held against what it announces: nothing is lost or renamed without a word."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import mcap_parts as parts
import pytest
import yaml
from mcap_parts import TOPIC, channel, chunk, chunk_index, frame_numbers, images, mcap, schema, statistics
from recorded_drive import (
    START_NS,
    STEP_NS,
    header,
    image,
    static_transforms,
    write_bag,
    write_drive,
    write_ros1_drive,
)
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.inputs import BagInput

FRAMES = 12
CAMERA = "/front/image_raw"


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bags")
    return {
        "mcap": write_drive(folder / "mcap", FRAMES, size=(24, 32)),
        "sqlite": write_drive(folder / "sqlite", FRAMES, StoragePlugin.SQLITE3, (24, 32)),
    }


def found(bag: Bag) -> Counter[Any]:
    return Counter((m.topic, m.type_name, m.time_ns, m.raw) for m in bag.messages(bag.types))


def file_of(folder: Path) -> Path:
    (file,) = (file for file in folder.iterdir() if file.suffix in (".mcap", ".db3"))
    return file


# -- MCAP ------------------------------------------------------------------------------------------------------------


def test_a_changed_byte_in_an_mcap_summary_loses_or_renames_no_message_without_a_word(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    file = file_of(bags["mcap"])
    data = file.read_bytes()
    expected = found(Bag(file))
    (start,) = struct.unpack_from("<Q", data, len(data) - 28)
    changed = tmp_path / file.name
    for place in range(start - 13, len(data), 11):
        for value in (data[place] ^ 1, data[place] ^ 0x80):
            changed.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            try:
                bag = Bag(changed)
            except BagError:
                continue
            assert found(bag) == expected or bag.damage, (place, value)


def test_an_mcap_with_chunk_indexes_and_without_message_indexes_gives_every_frame(tmp_path: Path) -> None:
    data, indexes = schema() + channel(), b""
    for first in (0, 3, 6):
        contents = b"".join(images(range(first, first + 3)))
        times = START_NS + first * STEP_NS, START_NS + (first + 2) * STEP_NS
        made = chunk(contents, *times)
        indexes += chunk_index(*times, parts.data_begin() + len(data), len(made), len(contents))
        data += made
    (tmp_path / "a.mcap").write_bytes(mcap(data, schema() + channel() + indexes + statistics({1: 9}, 3)))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages([TOPIC])) == list(range(9))
    assert bag.counts == {TOPIC: 9}
    assert bag.damage == []


@pytest.mark.parametrize("summary", [schema() + channel() + statistics({1: 6}), b""], ids=["summary", "no summary"])
def test_messages_outside_chunks_and_in_any_order_are_given_in_the_order_of_their_times(
    summary: bytes, tmp_path: Path
) -> None:
    order = [3, 0, 2, 1, 5, 4]
    (tmp_path / "a.mcap").write_bytes(mcap(schema() + channel() + b"".join(images(order)), summary, profile=""))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages([TOPIC])) == sorted(order)
    assert frame_numbers(bag.messages([TOPIC], START_NS + STEP_NS, START_NS + 4 * STEP_NS)) == [1, 2, 3]
    assert bag.damage == []


def test_chunks_of_one_camera_after_the_other_are_given_in_the_order_of_their_times(tmp_path: Path) -> None:
    data = schema() + channel(1, "/front/image_raw") + channel(2, "/rear/image_raw")
    for number in (1, 2):
        for first in (0, 3):
            times = START_NS + first * STEP_NS, START_NS + (first + 2) * STEP_NS
            data += chunk(b"".join(images(range(first, first + 3), number)), *times)
    (tmp_path / "a.mcap").write_bytes(mcap(data))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages(bag.types)) == [n for n in range(6) for _ in range(2)]
    assert bag.damage == []


def test_protobuf_beside_ros_messages_is_left_out_and_is_no_damage(tmp_path: Path) -> None:
    others = schema(2, "foxglove.Scene", "x", "protobuf") + channel(2, "/scene", 2, "protobuf")
    data = schema() + channel() + others + b"".join(images(range(3))) + parts.message(START_NS, b"\x0a\x01x", 2)
    (tmp_path / "a.mcap").write_bytes(mcap(data))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages(bag.types)) == [0, 1, 2]
    assert (bag.damage, bag.left_out) == ([], {"/scene": "protobuf"})
    assert bag.notes == ["topics whose messages are not those of ROS 2 are left out: /scene (protobuf)"]
    (tmp_path / "b.mcap").write_bytes(mcap(others + parts.message(START_NS, b"\x0a\x01x", 2)))
    with pytest.raises(BagError, match="holds no messages of ROS 2, only /scene"):
        BagInput(Bag(tmp_path / "b.mcap"), [])
    (tmp_path / "c.mcap").write_bytes(mcap(schema(language="ros1msg") + channel(encoding="ros1"), profile="ros1"))
    with pytest.raises(BagError, match=r"holds messages of ROS 1 in MCAP .* rosbags-convert --src"):
        BagInput(Bag(tmp_path / "c.mcap"), [])


@pytest.mark.parametrize(
    ("schema_number", "language", "encoding", "shown"),
    [
        (0, "", "json", "json"),
        (2, "ros1msg", "ros1", "ROS 1"),
        (2, "own", "x-own\x1b", "x-own\\u001b"),
        (0, "", "x-own", "x-own"),
    ],
)
def test_any_messages_that_are_not_those_of_ros_2_are_named_once_and_are_no_damage(
    schema_number: int, language: str, encoding: str, shown: str, tmp_path: Path
) -> None:
    others = schema(2, "some/Type", "x", language) + channel(2, "/other/image_raw", schema_number, encoding)
    data = schema() + channel() + others + b"".join(images(range(3))) + parts.message(START_NS, b"{}", 2) * 5
    (tmp_path / "a.mcap").write_bytes(mcap(data, profile=""))
    source = BagInput(Bag(tmp_path / "a.mcap"), [])
    assert [camera.image for camera in source.cameras] == [TOPIC]
    assert source.damage == []
    assert source.notes == [f"topics whose messages are not those of ROS 2 are left out: /other/image_raw ({shown})"]


def test_a_damaged_encoding_of_a_ros_topic_is_damage(tmp_path: Path) -> None:
    data = schema() + channel() + channel(2, "/rear/image_raw", 1, "cdb") + b"".join(images(range(3)))
    (tmp_path / "a.mcap").write_bytes(mcap(data))
    bag = Bag(tmp_path / "a.mcap")
    assert bag.damage == ["a.mcap: /rear/image_raw: its messages are in 'cdb', which is not read"]
    assert bag.notes == []


@pytest.mark.parametrize("language", ["ros2idl", ""])
def test_an_image_with_a_definition_in_idl_or_none_is_read(language: str, tmp_path: Path) -> None:
    written = "module sensor_msgs { module msg { struct Image { uint32 height; }; }; };" if language else ""
    listed = schema() + channel() + schema(2, written=written, language=language) + channel(2, schema_number=2)
    messages = b"".join([*images([0, 2, 4], 1), *images([1, 3], 2)])
    (tmp_path / "a.mcap").write_bytes(mcap(listed + messages))
    bag = Bag(tmp_path / "a.mcap")
    assert [bag.deserialize(message).width for message in bag.messages([TOPIC])] == [8] * 5
    assert frame_numbers(bag.messages([TOPIC])) == [0, 1, 2, 3, 4]
    assert (bag.damage, bag.notes) == ([], [])


def test_a_topic_whose_name_moves_the_cursor_is_named_without_moving_it(tmp_path: Path) -> None:
    topic = "/cam\x1b[2J\nproblem: none\u202e/image_raw"
    (tmp_path / "a.mcap").write_bytes(mcap(schema() + channel(topic=topic, encoding="c\x1bdr") + b"".join(images([0]))))
    with pytest.raises(BagError) as refused:
        Bag(tmp_path / "a.mcap")
    assert str(refused.value).isprintable()
    assert "/cam\\u001b[2J problem: none\\u202e/image_raw" in str(refused.value)


def test_a_channel_without_a_definition_is_named_with_its_messages(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(mcap(schema() + channel() + b"".join([*images([0]), *images([1, 2], 7)])))
    bag = Bag(tmp_path / "a.mcap")
    assert frame_numbers(bag.messages(bag.types)) == [0]
    assert bag.damage == ["a.mcap: 2 messages are of topics whose definition cannot be read"]


# -- metadata.yaml ---------------------------------------------------------------------------------------------------


def edited(bag: Path, to: Path, change: Any) -> Path:
    shutil.copytree(bag, to)
    data = yaml.safe_load((to / "metadata.yaml").read_text())
    change(data["rosbag2_bagfile_information"])
    (to / "metadata.yaml").write_text(yaml.safe_dump(data))
    return to


@pytest.mark.parametrize("storage", ["mcap", "sqlite"])
def test_the_quality_of_service_in_the_metadata_may_differ_from_the_storage(
    storage: str, bags: dict[str, Path], tmp_path: Path
) -> None:
    def empty(information: Any) -> None:
        for topic in information["topics_with_message_count"]:
            topic["topic_metadata"]["offered_qos_profiles"] = []

    def reliability(information: Any) -> None:
        for topic in information["topics_with_message_count"]:
            topic["topic_metadata"]["offered_qos_profiles"] = "- history: 1\n  reliability: 2\n  no such key: [1"

    expected = found(Bag(bags[storage]))
    for name, change in (("empty", empty), ("other", reliability)):
        bag = Bag(edited(bags[storage], tmp_path / name, change))
        assert found(bag) == expected
        assert bag.damage == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite"])
def test_what_is_announced_and_not_there_is_named_for_every_topic(
    storage: str, bags: dict[str, Path], tmp_path: Path
) -> None:
    def more(information: Any) -> None:
        for topic in information["topics_with_message_count"]:
            topic["message_count"] += 1
        information["relative_file_paths"].append("bag_1.mcap")

    bag = Bag(edited(bags[storage], tmp_path / "bag", more))
    assert sum(found(bag).values()) == 2 * FRAMES + 1
    said = "\n".join(bag.damage)
    for topic, count in ((CAMERA, FRAMES), ("/front/camera_info", FRAMES), ("/tf_static", 1)):
        assert f"metadata.yaml announces {count + 1} messages on {topic}; there are {count}" in said
    assert "metadata.yaml lists 'bag_1.mcap', which is not there" in said


def test_a_file_that_the_metadata_does_not_list_is_read_and_named(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = edited(bags["mcap"], tmp_path / "bag", lambda information: information.update(relative_file_paths=[]))
    bag = Bag(folder)
    assert sum(found(bag).values()) == 2 * FRAMES + 1
    assert (bag.damage, bag.notes) == ([], ["bag/metadata.yaml does not list mcap.mcap; it is read as well"])


def test_renamed_files_are_read_and_are_no_damage_where_every_announced_message_is_there(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    folder = edited(bags["mcap"], tmp_path / "bag", lambda information: None)
    file_of(folder).rename(folder / "renamed.mcap")
    bag = Bag(folder)
    assert found(bag) == found(Bag(bags["mcap"]))
    assert bag.damage == []
    assert bag.notes == [
        "bag/metadata.yaml lists 'mcap.mcap', which is not there",
        "bag/metadata.yaml does not list renamed.mcap; it is read as well",
    ]

    def more(information: Any) -> None:
        information["topics_with_message_count"][0]["message_count"] += 1

    fewer = edited(folder, tmp_path / "fewer", more)
    assert [sentence.partition(" ")[0] for sentence in Bag(fewer).damage] == [
        "metadata.yaml",
        *["fewer/metadata.yaml"] * 2,
    ]
    assert Bag(fewer).notes == []


@pytest.mark.parametrize("name", ["/home/user/drives/mcap.mcap", "mcap/mcap.mcap", "C:\\drives\\mcap.mcap"])
def test_the_metadata_may_give_files_with_any_path(name: str, bags: dict[str, Path], tmp_path: Path) -> None:
    folder = edited(bags["mcap"], tmp_path / "bag", lambda information: information.update(relative_file_paths=[name]))
    bag = Bag(folder)
    assert (sum(bag.counts.values()), bag.damage, bag.notes) == (2 * FRAMES + 1, [], [])


@pytest.mark.parametrize("version", range(1, 10))
def test_metadata_of_every_version_of_rosbag2_is_read(version: int, bags: dict[str, Path], tmp_path: Path) -> None:
    def as_of_version(information: Any) -> None:
        information["version"] = version
        for field, since in (("files", 5), ("custom_data", 6), ("ros_distro", 8)):
            if version < since:
                information.pop(field, None)
        for topic in information["topics_with_message_count"]:
            if version < 9:  # a text with YAML in it
                topic["topic_metadata"]["offered_qos_profiles"] = "- history: 3\n  depth: 0\n"
            if version < 7:
                topic["topic_metadata"].pop("type_description_hash", None)
        if version < 4:
            information["relative_file_paths"] = [f"mcap/{name}" for name in information["relative_file_paths"]]

    bag = Bag(edited(bags["mcap"], tmp_path / "bag", as_of_version))
    assert found(bag) == found(Bag(bags["mcap"]))
    assert (bag.damage, bag.notes) == ([], [])


@pytest.mark.parametrize("announced", [0, 5])
def test_a_camera_that_only_the_metadata_has_is_named(announced: int, bags: dict[str, Path], tmp_path: Path) -> None:
    def rear(information: Any) -> None:
        topic = {"name": "/rear/image_raw", "type": "sensor_msgs/msg/Image", "serialization_format": "cdr"}
        information["topics_with_message_count"].append({"topic_metadata": topic, "message_count": announced})

    source = BagInput(Bag(edited(bags["mcap"], tmp_path / "bag", rear)), [])
    assert [camera.name for camera in source.cameras] == ["front", "rear"]
    assert source.damage[-1] == "/rear/image_raw: is a camera's topic without messages; choose others with --camera"
    assert source.copied.keys() == {CAMERA, "/front/camera_info", "/tf_static"}
    assert len(source.damage) == 1 + bool(announced)


def test_a_topic_that_the_metadata_lists_for_each_of_its_publishers_has_the_sum(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    def twice(information: Any) -> None:
        (camera,) = (t for t in information["topics_with_message_count"] if t["topic_metadata"]["name"] == CAMERA)
        camera["message_count"] -= 5
        information["topics_with_message_count"].append({**camera, "message_count": 5})

    assert Bag(edited(bags["mcap"], tmp_path / "bag", twice)).damage == []


def test_without_metadata_yaml_the_copy_in_a_file_says_what_is_missing(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = changed_database(bags["sqlite"], tmp_path / "bag", f"DELETE FROM messages WHERE id > {FRAMES + 1}")
    (folder / "metadata.yaml").unlink()
    said = "\n".join(Bag(folder).damage)
    assert f"its copy of the metadata announces {FRAMES} messages on {CAMERA}; there are {FRAMES // 2}" in said

    def of_two_files(text: str) -> str:
        data = yaml.safe_load(text)
        data["relative_file_paths"] = ["bag_0.db3", "bag_1.db3"]
        return yaml.safe_dump(data)

    with sqlite3.connect(file_of(folder)) as connection:
        connection.create_function("of_two_files", 1, of_two_files)
        connection.execute("UPDATE metadata SET metadata = of_two_files(metadata)")
    connection.close()
    part = Bag(folder)
    assert part.damage == []
    assert part.notes == [
        f"a copy of the metadata lists 2 files with {2 * FRAMES + 1} messages; 1 files with {FRAMES + 1} are read"
    ]


def test_the_compressed_topic_is_the_camera_where_the_raw_one_has_no_message(tmp_path: Path) -> None:
    types = message_types()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/rear/image_raw", "sensor_msgs/msg/Image", typestore=types.typestore)
        kind = "sensor_msgs/msg/CompressedImage"
        compressed = writer.add_connection("/rear/image_raw/compressed", kind, typestore=types.typestore)
        writer.write(compressed, START_NS, types.serialized(types(kind, format="jpeg")))
        writer.add_connection("/left/image_raw", "sensor_msgs/msg/Image", typestore=types.typestore)
    source = BagInput(Bag(tmp_path / "bag"), [])
    assert [camera.image for camera in source.cameras] == ["/left/image_raw", "/rear/image_raw/compressed"]
    assert source.damage == ["/left/image_raw: is a camera's topic without messages; choose others with --camera"]


def test_a_raw_topic_with_fewer_messages_than_the_compressed_one_is_named(tmp_path: Path) -> None:
    types = message_types()
    kind = "sensor_msgs/msg/CompressedImage"
    compressed = [types(kind, header=header(number), format="jpeg") for number in range(3)]
    topics = {"/rear/image_raw": [image(0)], "/rear/image_raw/compressed": compressed}
    source = BagInput(Bag(write_bag(tmp_path / "bag", topics)), [])
    assert [camera.image for camera in source.cameras] == ["/rear/image_raw"]
    assert source.damage == []
    assert source.notes == [
        "/rear/image_raw is used, with 1 messages; /rear/image_raw/compressed has 3; --camera can choose it"
    ]


def test_the_static_transforms_of_a_namespace_are_used_where_there_are_no_others(tmp_path: Path) -> None:
    frames = {"/robot/front/image_raw": [image(number) for number in range(3)]}
    own = {"/robot/tf_static": [None, static_transforms()]}
    source = BagInput(Bag(write_bag(tmp_path / "one", {**frames, **own})), [])
    assert source.transforms.pose("camera_optical", "base_link").translation == (0.0, 0.0, 1.5)
    assert source.notes == ["/tf_static has no messages; /robot/tf_static is used"]
    two = BagInput(Bag(write_bag(tmp_path / "two", {**frames, **own, "/other/tf_static": [static_transforms()]})), [])
    with pytest.raises(CameraError, match="no transform"):
        two.transforms.pose("camera_optical", "base_link")
    assert two.notes == [
        "/tf_static has no messages; which of /other/tf_static, /robot/tf_static to use is not known: none is"
    ]


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_static_transforms_in_the_middle_of_a_bag_hold_from_the_beginning(
    storage: StoragePlugin, tmp_path: Path
) -> None:
    topics = {CAMERA: [image(number) for number in range(4)], "/tf_static": [None, None, static_transforms()]}
    source = BagInput(Bag(write_bag(tmp_path / "bag", topics, storage)), [])
    assert source.transforms.pose("camera_optical", "base_link").translation == (0.0, 0.0, 1.5)
    assert (source.damage, source.notes) == ([], [])


def test_other_transports_of_a_camera_are_no_cameras(tmp_path: Path) -> None:
    kind = "sensor_msgs/msg/CompressedImage"
    others = {f"{CAMERA}/{name}": [message_types()(kind)] for name in ("compressed", "compressedDepth", "zstd")}
    source = BagInput(Bag(write_bag(tmp_path / "bag", {CAMERA: [image(0)], **others})), [])
    assert [camera.image for camera in source.cameras] == [CAMERA]


@pytest.mark.parametrize(
    ("value", "said"), [("'3'", "its message_count is '3', not a int"), ("", "its message_count is missing")]
)
def test_a_number_of_messages_that_is_none_is_named_with_its_topic_and_the_files_are_read(
    value: str, said: str, tmp_path: Path
) -> None:
    folder = write_bag(tmp_path / "bag", {CAMERA: [image(0), image(1), image(2)]})
    metadata = folder / "metadata.yaml"
    of_bag, of_topic = metadata.read_text().split("topics_with_message_count", 1)
    changed = of_topic.replace("message_count: 3", f"message_count: {value}", 1)
    assert changed != of_topic
    metadata.write_text(f"{of_bag}topics_with_message_count{changed}")
    bag = Bag(folder)
    assert bag.counts == {CAMERA: 3}
    assert f"{said} (topic '{CAMERA}')" in bag.damage[0]


# -- SQLite ----------------------------------------------------------------------------------------------------------

_RECORDER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA wal_autocheckpoint=0")
rows = connection.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id").fetchall()
connection.execute("DELETE FROM messages WHERE id > 3")
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
for row in rows[3:]:
    connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
os.kill(os.getpid(), signal.SIGKILL)
"""


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(folder.iterdir())
    }


def killed_recorder(bag: Path, to: Path) -> Path:
    """A copy of a bag whose last messages are only in the write-ahead log."""
    shutil.copytree(bag, to)
    done = subprocess.run([sys.executable, "-c", _RECORDER, str(file_of(to))], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert file_of(to).with_suffix(".db3-wal").stat().st_size
    return to


def test_messages_in_a_write_ahead_log_are_read_and_the_folder_is_not_changed(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    folder = killed_recorder(bags["sqlite"], tmp_path / "bag")
    before = tree(folder)
    os.chmod(folder, 0o555)
    bag = Bag(folder)
    assert found(bag) == found(Bag(bags["sqlite"]))
    assert bag.damage == []
    assert tree(folder) == before
    os.chmod(folder, 0o755)
    log = file_of(folder).with_suffix(".db3-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    damaged = Bag(folder)
    assert 3 <= sum(found(damaged).values()) < 2 * FRAMES + 1
    assert "write-ahead log were not finished, or are damaged" in damaged.damage[0]


def test_the_write_ahead_log_of_a_linked_file_is_read(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = killed_recorder(bags["sqlite"], tmp_path / "bag")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "drive.db3").symlink_to(file_of(folder))
    bag = Bag(tmp_path / "links")
    assert found(bag) == found(Bag(bags["sqlite"]))
    assert (bag.damage, bag.notes) == ([], [])


def test_a_write_ahead_log_that_was_not_copied_along_is_named(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = killed_recorder(bags["sqlite"], tmp_path / "bag")
    file = file_of(folder)
    file.with_suffix(".db3-wal").unlink()
    (folder / "metadata.yaml").unlink()
    # As rosbag2 leaves it where it is killed: the copy of the metadata has no messages yet.
    data = file.read_bytes()
    assert data[18:20] == b"\2\2"
    file.write_bytes(data.replace(b"message_count: ", b"massage_count: "))
    bag = Bag(folder)
    assert sum(found(bag).values()) == 3
    said = f"it was recorded with a write-ahead log; if its recorder was killed, put {file.name}-wal beside it"
    assert bag.notes == [f"{file.name}: {said}"]


def test_a_write_ahead_log_whose_file_was_renamed_is_named(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = killed_recorder(bags["sqlite"], tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    log = file_of(folder).with_suffix(".db3-wal")
    file_of(folder).rename(folder / "renamed.db3")
    bag = Bag(folder)
    assert any(
        f"{log.name} is the write-ahead log of {log.name[:-4]}, which is not there" in text for text in bag.damage
    )
    log.rename(folder / "renamed.db3-wal")
    assert (Bag(folder).damage, found(Bag(folder))) == ([], found(Bag(bags["sqlite"])))


def test_a_sqlite_file_without_definitions_and_quality_of_service_is_read(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    """As the distributions before Humble wrote it."""
    folder = changed_database(
        bags["sqlite"],
        tmp_path / "bag",
        "CREATE TABLE old(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT)",
        "INSERT INTO old SELECT id, name, type, serialization_format FROM topics",
        "DROP TABLE topics",
        "ALTER TABLE old RENAME TO topics",
        "DROP TABLE message_definitions",
        "DROP TABLE metadata",
    )
    bag = Bag(folder)
    assert found(bag) == found(Bag(bags["sqlite"]))
    assert (bag.damage, bag.notes) == ([], [])


def test_messages_of_sqlite_that_are_not_those_of_ros_2_are_named_once(bags: dict[str, Path], tmp_path: Path) -> None:
    folder = changed_database(
        bags["sqlite"],
        tmp_path / "bag",
        "UPDATE topics SET serialization_format = 'protobuf' WHERE name = '/front/camera_info'",
    )
    bag = Bag(folder)
    assert sum(found(bag).values()) == FRAMES + 1
    assert bag.damage == []
    assert bag.notes == ["topics whose messages are not those of ROS 2 are left out: /front/camera_info (protobuf)"]


def test_reading_changes_no_file_of_any_kind_of_bag(bags: dict[str, Path], tmp_path: Path) -> None:
    for name, bag in bags.items():
        before = tree(bag)
        found(Bag(bag))
        assert tree(bag) == before, name


def changed_database(bag: Path, to: Path, *statements: str) -> Path:
    shutil.copytree(bag, to)
    with sqlite3.connect(file_of(to)) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return to


def test_rows_that_the_index_names_and_the_table_does_not_give_are_named(bags: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bags["sqlite"], tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    file = file_of(tmp_path / "bag")
    with sqlite3.connect(file) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    connection.close()
    data = bytearray(file.read_bytes())
    page = 4096 * (root - 1)
    assert data[page] in (5, 13)
    if data[page] == 5:  # an inner page; its first child is a leaf
        cell = page + int.from_bytes(data[page + 12 : page + 14], "big")
        page = 4096 * (int.from_bytes(data[cell : cell + 4], "big") - 1)
    assert data[page] == 13
    # One row fewer in the page: SQLite itself sees no fault.
    data[page + 3 : page + 5] = (int.from_bytes(data[page + 3 : page + 5], "big") - 1).to_bytes(2, "big")
    file.write_bytes(data)
    bag = Bag(tmp_path / "bag")
    assert sum(found(bag).values()) == 2 * FRAMES
    assert bag.damage == [
        f"{file.name}: 1 messages that its index names cannot be read",
        f"its copy of the metadata announces {FRAMES} messages on /front/camera_info; there are {FRAMES - 1}",
    ]


# -- ROS 1 -----------------------------------------------------------------------------------------------------------


def test_a_ros_1_bag_without_its_index_gives_every_message_and_is_named(tmp_path: Path) -> None:
    path = write_ros1_drive(tmp_path / "a.bag", FRAMES)
    expected = found(Bag(path))
    assert sum(expected.values()) == 2 * FRAMES
    assert Bag(path).damage == []
    data = bytearray(path.read_bytes())
    place = data.index(b"index_pos=") + len(b"index_pos=")
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    bag = Bag(path)
    assert found(bag) == expected
    assert bag.damage == ["a.bag: it was not finished: its recorder was killed"]


def test_all_publishers_of_a_ros_1_topic_are_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    time = store.types["builtin_interfaces/msg/Time"]
    with Ros1Writer(tmp_path / "a.bag") as writer:
        publishers = [
            writer.add_connection("/clock", "builtin_interfaces/msg/Time", typestore=store, callerid=name)
            for name in ("/one", "/two")
        ]
        for number in range(4):
            raw = store.serialize_ros1(time(number, 0), "builtin_interfaces/msg/Time")
            writer.write(publishers[number % 2], START_NS + number * STEP_NS, raw)
    bag = Bag(tmp_path / "a.bag")
    assert frame_numbers(bag.messages(["/clock"])) == [0, 1, 2, 3]
    assert bag.damage == []


def test_a_bag_of_several_files_that_overlap_is_given_in_the_order_of_time(tmp_path: Path) -> None:
    for number, numbers in enumerate(([0, 1, 4], [2, 3, 5])):
        listed = [image(n) if n in numbers else None for n in range(6)]
        made = write_bag(tmp_path / f"made_{number}", {CAMERA: listed})
        (tmp_path / "bag").mkdir(exist_ok=True)
        shutil.copyfile(file_of(made), tmp_path / "bag" / f"bag_{number}.mcap")
    bag = Bag(tmp_path / "bag")
    assert frame_numbers(bag.messages([CAMERA])) == list(range(6))
    assert bag.damage == []
