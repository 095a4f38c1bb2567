"""Reads the recording of a recorder whose disk was full: what can be read must be right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.faults.frames import CAMERAS
from benchmark.faults.processes.watcher import Result
from benchmark.faults.topics import NODE, OUTPUTS
from benchmark.faults.verdict.checks import SentFrames
from ros_ood_perception.recordings.bag import Bag, BagError

LONGEST_WAY_S = 30.0


def recorded_results(folder: Path, frames: SentFrames) -> Iterator[Result]:
    """The results in a bag, complete or damaged; none where nothing can be read.

    Args:
        frames: what was sent. A recording does not say when a result came; it is taken as 30 s after the frame.
    """
    topics = {f"{NODE}/{camera}/{output}": (camera, output) for camera in CAMERAS for output in OUTPUTS}
    try:
        bag = Bag(folder)
    except BagError:
        return
    for message in bag.messages([topic for topic in topics if topic in bag.types]):
        camera, output = topics[message.topic]
        image = bag.deserialize(message)
        stamp = (image.header.stamp.sec, image.header.stamp.nanosec)
        sent = frames.find(camera, stamp)
        received_at = sent.sent_at + LONGEST_WAY_S if sent else 0.0
        yield Result(
            camera,
            output,
            stamp,
            image.height,
            image.width,
            image.encoding,
            bytes(image.data),
            b"",
            received_at,
        )
