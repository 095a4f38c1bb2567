"""What the live node published of a bag, and what a replay of the same bag writes: the same, message by message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from raw_scenes import message as encoded

from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.split_bag import SplitBag
from ros_ood_perception.replay.command_line.main import main as replay

FRAMES = 10
ENCODINGS = ("bgr8", "yuv422_yuy2", "bayer_grbg8", "rgb16", "nv21", "nv24", "mono16", "bayer_rggb16", "uyvy", "8UC3")
"""Of each frame; those of 16 bits alternate between the byte orders."""


def write_bag(folder: Path) -> None:
    types = message_types()
    bag = SplitBag(OutputFolder.claim(folder.parent, "test"), folder.name, types.typestore)
    bag.add_topic("/front/image_raw", "sensor_msgs/msg/Image")
    generator = np.random.default_rng(3)
    for number in range(FRAMES):
        time_ns = 1_700_000_000_000_000_000 + number * 200_000_000
        pixels = cv2.resize(generator.integers(0, 256, (9, 12, 3), np.uint8), (160, 120))
        image = encoded(ENCODINGS[number], padding=number, big_endian=number % 2 == 1, rgb=pixels)
        stamp = types("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        message = types(
            "sensor_msgs/msg/Image",
            header=types("std_msgs/msg/Header", stamp=stamp, frame_id="camera"),
            height=120,
            width=160,
            encoding=image.encoding,
            is_bigendian=image.is_bigendian,
            step=image.step,
            data=image.data,
        )
        bag.write("/front/image_raw", time_ns, types.serialized(message))
    bag.close_file()


def test_every_frame_that_both_processed_has_equal_masks_and_scores(shipped_bundle: Path, tmp_path: Path) -> None:
    write_bag(tmp_path / "drive")
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DOMAIN_ID"}
    command = [sys.executable, "-m", "demo.run_demo", tmp_path / "drive", "--bundle", shipped_bundle]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "live")],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    accounting = json.loads((tmp_path / "live" / "summary.json").read_text())["accounting"]
    published = accounting["published"]
    assert accounting["malformed"] == 0
    options = ["--bundle", str(shipped_bundle), "--out", str(tmp_path / "replay")]
    strict = ["--min-class-agreement", "1", "--min-anomaly-iou", "1", "--max-score-difference", "0"]
    assert replay([str(tmp_path / "drive"), *options, "--compare", str(tmp_path / "live" / "bag"), *strict]) == 0
    comparison = json.loads((tmp_path / "replay" / "comparison.json").read_text())
    assert comparison["frames"] == published > 0
    assert comparison["only_there"] == 0
    # Not only the pixels: whole messages.
    replayed, live = Bag(tmp_path / "replay" / "bag"), Bag(tmp_path / "live" / "bag")
    types = message_types()
    for topic in ("semantic/mask", "anomaly/mask", "anomaly/score"):
        name = f"/perception_node/output/{topic}"
        written = {message.raw for message in replayed.messages([name])}
        # Read and written again: rclpy leaves what it finds in memory between the fields.
        recorded = {types.serialized(live.deserialize(message)) for message in live.messages([name])}
        assert recorded <= written, topic
        assert len(recorded) == published
