"""The expected results for each frame of the pool, computed once by a replay of a bag."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.faults.frames import CAMERAS, TRANSPORTS, PoolFrame, image_topic, pool
from benchmark.faults.topics import MASK, OUTPUTS, SCORE, SEMANTIC
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.results import score_to_mono8
from ros_ood_perception.messages.stamps import stamp_message, stamp_ns
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.split_bag import SplitBag

THRESHOLD = 0.5
FRAME_INTERVAL_NS = 100_000_000
FIRST_NS = 1_700_000_000_000_000_000
Key = tuple[str, str, int]
"""Camera, transport, index in the pool."""


class ReplayFailedError(PerceptionError, RuntimeError):
    """The replay lacks the result of a frame, or two frames have the same result."""


@dataclass(frozen=True)
class Expected:
    """The replay's result of one frame.

    Attributes:
        semantic: (H, W) uint8 class ids.
        score: (H, W) float32.
        mask: (H, W) uint8, 0 or 255, at `THRESHOLD`.
    """

    semantic: NDArray[np.uint8]
    score: NDArray[np.float32]
    mask: NDArray[np.uint8]

    def mask_at(self, threshold: float) -> bytes:
        """The anomaly mask's bytes: 255 where the score is at or above the threshold."""
        return ((self.score >= np.float32(threshold)).astype(np.uint8) * np.uint8(255)).tobytes()

    def score_as(self, encoding: str) -> bytes:
        """The score's bytes in one of the encodings of `output/anomaly/score`."""
        return (self.score if encoding == "32FC1" else score_to_mono8(self.score)).tobytes()


def expected_results(folder: Path, bundle: Path, size: tuple[int, int]) -> dict[Key, Expected]:
    """The results of every frame of every camera's pool, for each transport.

    Args:
        folder: for the bag and its replay.
        size: height and width of the frames, pixels.

    Raises:
        ReplayFailedError: results are missing, or cannot tell two frames apart.
    """
    frames = _write_bag(folder / "pool", size)
    command = [sys.executable, "-m", "ros_ood_perception.replay", str(frames), "--bundle", str(bundle)]
    command += ["--engine", "onnxruntime", "--threads", "1", "--out", str(folder / "replay")]
    command += ["--outputs", "semantic_mask,anomaly_mask,anomaly_score", "--set", "score_encoding=32FC1"]
    command += ["--set", f"anomaly_threshold={THRESHOLD}"]
    for camera, transport in _streams():
        command += ["--camera", f"{camera}_{transport}={image_topic(camera, transport)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReplayFailedError(f"the replay of the pool ended with {done.returncode}: {done.stderr[-2000:]}")
    found = _read(folder / "replay" / "bag", size)
    _check(found)
    return found


def _streams() -> Iterator[tuple[str, str]]:
    for camera in CAMERAS:
        for transport in TRANSPORTS:
            yield camera, transport


def _write_bag(folder: Path, size: tuple[int, int]) -> Path:
    types = message_types()
    bag = SplitBag(OutputFolder.claim(folder, "benchmark.faults"), "bag", types.typestore)
    kinds = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
    for camera, transport in _streams():
        bag.add_topic(image_topic(camera, transport), kinds[transport])
    pools = {camera: pool(camera, size) for camera in CAMERAS}
    for index in range(len(pools[CAMERAS[0]])):
        time_ns = FIRST_NS + index * FRAME_INTERVAL_NS
        stamp = stamp_message(types, time_ns)
        for camera, transport in _streams():
            header = types("std_msgs/msg/Header", stamp=stamp, frame_id=camera)
            fields = _fields(pools[camera][index], transport)
            message = types(kinds[transport], header=header, **fields)
            bag.write(image_topic(camera, transport), time_ns, types.serialized(message))
    bag.close_file()
    return bag.folder


def _fields(frame: PoolFrame, transport: str) -> dict[str, object]:
    if transport == "compressed":
        return {"format": frame.format, "data": np.frombuffer(frame.file, np.uint8)}
    return {
        "height": frame.height,
        "width": frame.width,
        "encoding": frame.encoding,
        "step": frame.step,
        "data": np.frombuffer(frame.data, np.uint8),
    }


def _read(folder: Path, size: tuple[int, int]) -> dict[Key, Expected]:
    bag = Bag(folder)
    topics = {
        f"/perception_node/{camera}_{transport}/{output}": (camera, transport, output)
        for camera, transport in _streams()
        for output in OUTPUTS
    }
    planes: dict[Key, dict[str, NDArray[np.generic]]] = {}
    for message in bag.messages(list(topics)):
        camera, transport, output = topics[message.topic]
        image = bag.deserialize(message)
        index = (stamp_ns(image.header.stamp) - FIRST_NS) // FRAME_INTERVAL_NS
        kind = np.float32 if image.encoding == "32FC1" else np.uint8
        plane = np.frombuffer(bytes(image.data), kind).reshape(size)
        planes.setdefault((camera, transport, index), {})[output] = plane
    return {
        key: Expected(found[SEMANTIC], found[SCORE], found[MASK])  # type: ignore[arg-type]
        for key, found in planes.items()
        if set(found) == set(OUTPUTS)
    }


def _check(found: dict[Key, Expected]) -> None:
    size = len(pool(CAMERAS[0], (16, 16)))
    wanted = [(camera, transport, index) for camera, transport in _streams() for index in range(size)]
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ReplayFailedError(f"the replay gave no result for {missing}")
    for key, result in found.items():
        if result.mask_at(THRESHOLD) != result.mask.tobytes():
            raise ReplayFailedError(f"the replay's mask of {key} is not its score at the threshold")
    # To find results with another frame's stamp, no two frames may have the same scores.
    for camera, transport in _streams():
        scores = [found[camera, transport, index].score.tobytes() for index in range(size)]
        others = {result.score.tobytes() for key, result in found.items() if key[0] != camera}
        if len(set(scores)) < size or others.intersection(scores):
            raise ReplayFailedError("two frames of the pool have the same scores: they cannot be told apart")
