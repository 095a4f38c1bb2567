"""The main job from its command line: player, node and recorder in processes of their own."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from recorded_drive import header, image, picture, write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from demo.live.topics import IMAGE_TOPICS
from demo.played_frames import TopicChoiceError, open_frames
from demo.summary import ACCOUNTING_FIELDS, problems
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.recordings.bag import BagError
from ros_ood_perception.recordings.message_types import message_types

FRAMES = 12


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    generator = np.random.default_rng(0)
    for number in range(FRAMES):
        picture = cv2.resize(generator.integers(0, 256, (9, 12, 3), np.uint8), (160, 120))
        cv2.imwrite(str(folder / f"{number:03d}<b>.png"), picture)
    return folder


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DOMAIN_ID"}
    command = [sys.executable, "-m", "demo.run_demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)


@pytest.fixture(scope="module")
def run(frames: Path, shipped_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    result = demo(frames, "--bundle", shipped_bundle, "--out", out, "--rate", "5", "--paced")
    assert result.returncode == 0, result.stderr
    return out


def test_every_frame_is_accounted_for_and_equal_to_the_engines(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["problems"] == []
    assert summary["accounting"]["sent"] == summary["accounting"]["published"] == FRAMES
    assert summary["recorded"] == {"semantic_mask": FRAMES, "anomaly_mask": FRAMES, "anomaly_score": FRAMES}
    assert summary["equal_to_engine"] == {"compared": FRAMES, **summary["recorded"]}
    assert 0 < summary["latency_ms"]["end_to_end"]["p50"] <= summary["latency_ms"]["end_to_end"]["p99"]
    assert summary["node_exit_code"] == 0


def test_the_bag_is_a_rosbag2_mcap_with_the_outputs_and_the_diagnostics(run: Path) -> None:
    assert (run / "bag" / "metadata.yaml").is_file()
    assert (run / "bag" / "bag.mcap").read_bytes().startswith(b"\x89MCAP0\r\n")
    with AnyReader([run / "bag"]) as reader:
        counts = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
    image_type = "sensor_msgs/msg/Image"
    for topic in ("semantic/mask", "anomaly/mask", "anomaly/score"):
        assert counts[f"/perception_node/output/{topic}"] == (image_type, FRAMES)
    assert counts["/diagnostics"][0] == "diagnostic_msgs/msg/DiagnosticArray"
    assert counts["/diagnostics"][1] > 0


def test_the_report_is_one_file_that_trusts_no_file_name_and_plays_every_frame(run: Path) -> None:
    report = (run / "report.html").read_text()
    assert "<b>.png" not in report
    assert not re.search(r"(src|href)=\"(?!data:|#)", report)
    data = player_data(report)
    [camera] = data["cameras"]
    assert [frame["name"] for frame in camera["frames"]] == [f"{number:03d}<b>.png" for number in range(FRAMES)]
    summary = json.loads((run / "summary.json").read_text())
    latencies = sorted(frame["latency_ms"] for frame in camera["frames"])
    assert latencies[-1] == pytest.approx(summary["latency_ms"]["end_to_end"]["max"], abs=0.1)
    for frame in camera["frames"]:
        for name in ("camera", "classes", "score"):
            picture = cv2.imdecode(np.frombuffer(base64.b64decode(frame[name]), np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (120, 160, 3)
    assert data["ground"] is None
    assert data["events"] == []


def player_data(report: str) -> dict[str, Any]:
    """What the page's script reads."""
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', report, re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def test_a_recorded_bag_can_be_played_and_keeps_its_stamps(run: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    topic = "/perception_node/output/semantic/mask"
    result = demo(run / "bag", "--topic", topic, "--bundle", shipped_bundle, "--out", tmp_path / "again")
    assert result.returncode == 0, result.stderr

    def stamps(bag: Path) -> list[tuple[int, int]]:
        with AnyReader([bag]) as reader:
            messages = reader.messages([c for c in reader.connections if c.topic == topic])
            headers = [reader.deserialize(raw, c.msgtype).header.stamp for c, _, raw in messages]
        return [(stamp.sec, stamp.nanosec) for stamp in headers]

    played, recorded = stamps(tmp_path / "again" / "bag"), stamps(run / "bag")
    assert played == [stamp for stamp in recorded if stamp in set(played)]
    # It plays at the recording's pace, where a slow machine replaces a frame unread, and says so.
    accounting = json.loads((tmp_path / "again" / "summary.json").read_text())["accounting"]
    assert len(played) == accounting["published"] == FRAMES - accounting["replaced_unread"]
    assert len(played) > FRAMES // 2


def test_bad_input_is_named_before_anything_starts(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((tmp_path / "nowhere",), "nowhere: no such file or folder"),
        ((tmp_path / "empty",), "no images in it"),
        ((frames, "--bundle", tmp_path / "empty"), "bundle.yaml: cannot be read"),
        ((frames, "--rate", "0"), "--rate: is 0; it must be a number above 0"),
        ((frames, "--threshold", "2"), "--threshold: is 2; it must be a number from 0 to 1"),
    ):
        result = demo(*arguments, "--out", tmp_path / "out")
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split()), result.stderr


def test_a_folder_with_other_files_is_not_overwritten(frames: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    result = demo(frames, "--bundle", shipped_bundle, "--out", tmp_path)
    assert result.returncode == 2
    assert "is not empty and was not written by the demo" in " ".join(result.stderr.split())
    assert (tmp_path / "bag").is_dir()


def test_compressed_frames_are_played_and_every_camera_is_shown(shipped_bundle: Path, tmp_path: Path) -> None:
    types = message_types()

    def compressed(number: int) -> Any:
        data = cv2.imencode(".jpg", picture(number))[1].ravel()
        return types("sensor_msgs/msg/CompressedImage", header=header(number), format="jpeg", data=data)

    bag = write_bag(
        tmp_path / "drive",
        {
            "/front/image_raw/compressed": [compressed(number) for number in range(4)],
            "/rear/image_raw": [image(number) for number in range(4)],
        },
    )
    out = tmp_path / "out"
    result = demo(bag, "--bundle", shipped_bundle, "--out", out, "--paced")
    assert result.returncode == 0, result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["accounting"]["published"], summary["equal_to_engine"]["semantic_mask"]) == (4, 4)
    assert summary["input"]["topic"] == "/front/image_raw/compressed"
    assert summary["input"]["other_cameras"] == ["/rear/image_raw"]
    [camera] = player_data((out / "report.html").read_text())["cameras"]
    assert (len(camera["frames"]), camera["size"]) == (4, [128, 96])
    cameras = player_data((out / "cameras" / "report.html").read_text())["cameras"]
    assert [(camera["name"], len(camera["frames"])) for camera in cameras] == [("front", 4), ("rear", 4)]


def test_a_bag_with_several_image_topics_asks_which(run: Path) -> None:
    with pytest.raises(TopicChoiceError, match=r"several image topics; choose with --topic: /perception_node/"):
        open_frames(run / "bag")
    with pytest.raises(TopicChoiceError, match="has no image topic '/other'"):
        open_frames(run / "bag", "/other")


def test_a_file_that_is_no_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"no bag")
    with pytest.raises(BagError, match=r"a\.mcap: cannot be read as a bag"):
        open_frames(tmp_path / "a.mcap")


def test_an_image_that_cannot_be_decoded_is_left_out_and_named(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((frames / "000<b>.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes((frames / "000<b>.png").read_bytes()[:40])
    source = open_frames(tmp_path)
    for _ in range(2):
        assert [frame.name for frame in source] == ["good.png"]
        bad, cut = source.unreadable
        assert bad.startswith(f"{tmp_path / 'bad.png'}: begins as none of JPEG, PNG, WebP, BMP, TIFF does")
        assert cut.startswith(f"{tmp_path / 'cut.png'}: the PNG ends in")


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("version", [8, 9])
def test_bags_of_every_storage_are_read(tmp_path: Path, storage: StoragePlugin, version: Literal[8, 9]) -> None:
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    types: Any = typestore.types
    with Writer(tmp_path / "bag", version=version, storage_plugin=storage) as writer:
        connection = writer.add_connection("/camera", "sensor_msgs/msg/Image", typestore=typestore)
        for number in range(3):
            stamp = types["builtin_interfaces/msg/Time"](sec=number, nanosec=5)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="left")
            message = types["sensor_msgs/msg/Image"](
                header=header,
                height=1,
                width=2,
                encoding="mono8",
                is_bigendian=0,
                step=2,
                data=np.array([number, 7], np.uint8),
            )
            writer.write(connection, number * 10**9, typestore.serialize_cdr(message, "sensor_msgs/msg/Image"))
    if storage is StoragePlugin.SQLITE3:
        # As Humble and earlier wrote them: without the definitions of the messages.
        with sqlite3.connect(next((tmp_path / "bag").glob("*.db3"))) as database:
            database.execute("DROP TABLE IF EXISTS message_definitions")
            database.execute("UPDATE schema SET schema_version = 3")
    source = open_frames(tmp_path / "bag")
    assert len(source) == 3
    assert [(stamp_ns(f.message.header.stamp), f.message.header.frame_id, f.message.data.tolist()) for f in source] == [
        (number * 10**9 + 5, "left", [number, 7]) for number in range(3)
    ]


def good_summary() -> dict[str, Any]:
    accounting = dict.fromkeys(ACCOUNTING_FIELDS, 0) | {"sent": 5, "published": 5}
    return {
        "accounting": accounting,
        "unaccounted": 0,
        "recorded": dict.fromkeys(IMAGE_TOPICS, 5),
        "equal_to_engine": {"compared": 5, **dict.fromkeys(IMAGE_TOPICS, 5)},
        "node_exit_code": 0,
        "input": {"unreadable": []},
    }


def test_a_good_run_has_no_problems() -> None:
    assert problems(good_summary()) == []


@pytest.mark.parametrize(
    ("part", "changes", "found"),
    [
        ("accounting", {"published": 4, "failed": 1}, "1 frames: failed"),
        ("accounting", {"published": 4, "lost_in_transport": 1}, "1 frames: lost in transport"),
        ("accounting", {"published": 4}, "the accounting does not add up"),
        ("accounting", {"published": 0, "malformed": 5}, "no frame was published"),
        ("recorded", {"anomaly_mask": 4}, "4 messages recorded of anomaly_mask, 5 frames published"),
        ("equal_to_engine", {"semantic_mask": 3}, "2 of 5 recorded semantic_masks differ from the engine's"),
        ("equal_to_engine", {"anomaly_mask": 4}, "1 of 5 recorded anomaly_masks differ from the engine's"),
        ("equal_to_engine", {"compared": 4}, "1 frames published could not be compared with the engine's"),
        ("input", {"unreadable": ["a.png"]}, "1 files could not be decoded"),
    ],
)
def test_what_went_wrong_is_a_problem(part: str, changes: dict[str, Any], found: str) -> None:
    summary = good_summary()
    summary[part].update(changes)
    assert any(found in problem for problem in problems(summary))
    summary = good_summary() | {"unaccounted": 2, "node_exit_code": 1}
    assert len(problems(summary)) == 2
