"""Compares the recorded outputs of the live node with the engine, or with a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from demo.played_frames import PlayedFrames
from demo.recorded_run import RecordedRun, pixel_digest, recorded_clouds, recorded_pixels
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.messages.results import score_to_mono8
from ros_ood_perception.recordings.bag_files import BAG_FOLDER


def compare_with_engine(
    run: RecordedRun,
    frames: PlayedFrames,
    bundle: Bundle,
    engine_name: str,
    num_threads: int,
    threshold: float,
    advance: Callable[[], None],
) -> dict[str, int]:
    """Run every frame that has a recorded semantic mask through the engine in this process, and compare.

    Returns:
        `compared`: number of frames; and for each output the number of frames with equal pixels.

    Raises:
        EngineError: the engine cannot be opened or fails.
    """
    recorded = {name: {m.frame: m.digest for m in messages} for name, messages in run.messages.items()}
    equal = {"compared": 0, **dict.fromkeys(recorded, 0)}
    description = bundle.description
    engine = open_engine(bundle, engine_name, num_threads)
    perception = Perception(engine, threshold, len(description.classes), description.input)
    for position, frame in enumerate(frames):
        if position not in recorded["semantic_mask"]:
            continue
        equal["compared"] += 1
        advance()
        try:
            result = perception(frames.colour(frame.message, description.input.colour_order))
        except MalformedImageError:
            # The node published a mask for a frame without an image: it counts as unequal.
            continue
        expected = {
            "semantic_mask": result.semantic,
            "anomaly_mask": result.anomaly_mask.astype(np.uint8) * np.uint8(255),
            "anomaly_score": score_to_mono8(result.anomaly_score),
        }
        for name, pixels in expected.items():
            equal[name] += recorded[name].get(position) == pixel_digest(pixels)
    engine.close()
    return equal


def compare_with_replay(
    run: RecordedRun, topics: Mapping[str, str], obstacles_topic: str, out: Path, replayed: Path
) -> dict[str, int]:
    """Compare the live node's outputs with those of a replay of the same bag, frame by frame.

    Args:
        topics: output name -> topic of images.
        obstacles_topic: of their points.
        out: folder of the run.
        replayed: bag of the replay.

    Returns:
        `compared`: number of frames that both processed; and for each output the number of frames with equal pixels
        and points.

    Raises:
        RecordingError: one of the bags cannot be read.
    """
    recorded = {name: {m.frame: m.digest for m in messages} for name, messages in run.messages.items()}
    equal = {"compared": 0, **dict.fromkeys(recorded, 0), "obstacles": 0}
    both = set()
    for name, frame, pixels in recorded_pixels(replayed, topics, run.sent):
        if frame not in recorded["semantic_mask"]:
            continue
        both.add(frame)
        equal[name] += recorded[name].get(frame) == pixel_digest(pixels)
    live, again = (recorded_clouds(bag, obstacles_topic, run.sent) for bag in (out / BAG_FOLDER, replayed))
    equal["obstacles"] = sum(
        frame in live and frame in again and live[frame].tobytes() == again[frame].tobytes() for frame in both
    )
    equal["compared"] = len(both)
    return equal
