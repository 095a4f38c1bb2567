"""Hostile images in a bag's compressed topic: each is counted, none ends the replay, and all others are replayed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from recorded_drive import BUNDLE, header, picture, write_bag

from ros_ood_perception.camera.decoder_process import shared_decoder
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.command_line.main import main

GOOD = cv2.imencode(".png", picture(0))[1].tobytes()


def replayed(folder: Path, images: list[bytes]) -> dict[str, Any]:
    kind = "sensor_msgs/msg/CompressedImage"
    messages = [
        message_types()(kind, header=header(number), format="png", data=np.frombuffer(data, np.uint8))
        for number, data in enumerate(images)
    ]
    write_bag(folder / "bag", {"/camera/image_raw/compressed": messages})
    assert main([*BUNDLE, str(folder / "bag"), "--out", str(folder / "out"), "--outputs", "anomaly_mask"]) == 1
    (camera,) = json.loads((folder / "out" / "summary.json").read_text())["cameras"]
    return dict(camera)


def test_an_attack_is_a_still_picture_or_malformed_and_every_other_frame_is_replayed(tmp_path: Path) -> None:
    pictures = [*list(hostile.ANIMATIONS.values())[:6], hostile.FLOODS["zTXt"]]
    bombs = [
        hostile.declared(40000, 40000),
        hostile.excess(),
        hostile.empty_blocks(),
        hostile.jpeg_with(before_end=hostile.of_kind(0xDA) * 5000),
        hostile.jpeg_with(before_frame=hostile.of_kind(0xC4) * 20000),
        hostile.jpeg_with(before_end=hostile.of_kind(0xC0)),
    ]
    camera = replayed(tmp_path, [GOOD, *pictures, GOOD, *bombs, GOOD])
    assert camera["accounting"] == {
        "frames": 3 + len(pictures) + len(bombs),
        "left_out": 0,
        "published": 3 + len(pictures),
        "malformed": len(bombs),
        "failed": 0,
    }
    assert [problem.split(": ")[0].split("#")[1] for problem in camera["problems"]] == [
        str(2 + len(pictures) + number) for number in range(len(bombs))
    ]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_the_frame_that_a_decoder_dies_of_is_malformed_and_the_next_one_is_replayed(
    tmp_path: Path, number: signal.Signals
) -> None:
    shared_decoder().colour(GOOD, 4096 * 4096)
    pid = shared_decoder().pid
    assert pid is not None
    os.kill(pid, number)
    camera = replayed(tmp_path, [GOOD] * 3)
    assert (camera["accounting"]["malformed"], camera["accounting"]["published"]) == (1, 2)
    assert f"#0: its decoder was killed by {number.name}" in camera["problems"][0]
