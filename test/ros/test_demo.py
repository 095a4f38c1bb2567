"""The main job from its command line: player, node and recorder in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from ros_ood_perception.demo.frame_source import FrameSourceError, open_frames
from ros_ood_perception.demo.report import choose_frames

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
    command = [sys.executable, "-m", "ros_ood_perception.demo.run_demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)


@pytest.fixture(scope="module")
def run(frames: Path, shipped_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    result = demo(frames, "--bundle", shipped_bundle, "--out", out, "--rate", "5")
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


def test_the_report_is_one_file_that_trusts_no_file_name(run: Path) -> None:
    report = (run / "report.html").read_text()
    assert "<b>.png" not in report
    assert "000&lt;b&gt;.png" in report
    assert report.count("data:image/jpeg;base64,") == 4 * FRAMES
    assert not re.search(r"(src|href)=\"(?!data:)", report)


def test_a_recorded_bag_can_be_played_and_keeps_its_stamps(run: Path, shipped_bundle: Path, tmp_path: Path) -> None:
    topic = "/perception_node/output/semantic/mask"
    result = demo(run / "bag", "--topic", topic, "--bundle", shipped_bundle, "--out", tmp_path / "again")
    assert result.returncode == 0, result.stderr

    def stamps(bag: Path) -> list[tuple[int, int]]:
        with AnyReader([bag]) as reader:
            messages = reader.messages([c for c in reader.connections if c.topic == topic])
            headers = [reader.deserialize(raw, c.msgtype).header.stamp for c, _, raw in messages]
        return [(stamp.sec, stamp.nanosec) for stamp in headers]

    assert stamps(tmp_path / "again" / "bag") == stamps(run / "bag")


def test_without_an_argument_it_says_what_to_give_it() -> None:
    result = demo()
    assert result.returncode == 2
    assert "./demo.sh FOLDER" in result.stderr


def test_bad_input_is_named_before_anything_starts(frames: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere",), "nowhere: no such file or folder"),
        ((tmp_path,), "no images in it"),
        ((frames, "--bundle", tmp_path), "bundle.yaml: cannot be read"),
        ((frames, "--rate", "0"), "--rate is 0; it must be positive"),
        ((frames, "--threshold", "2"), "--threshold is 2; it must be from 0 to 1"),
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


def test_a_bag_with_several_image_topics_asks_which(run: Path) -> None:
    with pytest.raises(FrameSourceError, match=r"several image topics; choose with --topic: /perception_node/"):
        open_frames(run / "bag")
    with pytest.raises(FrameSourceError, match="has no image topic '/other'"):
        open_frames(run / "bag", "/other")


def test_a_file_that_is_no_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"no bag")
    with pytest.raises(FrameSourceError, match=r"a\.mcap: cannot be read as a bag"):
        open_frames(tmp_path / "a.mcap")


def test_an_image_that_cannot_be_decoded_is_left_out_and_named(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((frames / "000<b>.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no image")
    source = open_frames(tmp_path)
    assert [frame.name for frame in source] == ["good.png"]
    assert source.unreadable == [str(tmp_path / "bad.png")]


def test_the_report_shows_the_whole_drive_and_its_most_anomalous_frames() -> None:
    share = dict.fromkeys(range(100), 0.0) | {33: 0.5, 34: 0.4}
    chosen = choose_frames(share)
    assert len(chosen) == 12
    assert {0, 33, 34, 99} <= set(chosen)
    assert chosen == sorted(chosen)
    assert choose_frames({5: 0.1, 2: 0.0}) == [2, 5]
    assert choose_frames({}) == []
