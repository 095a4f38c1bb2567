"""The cost of finishing a file of a replay: seconds of fsync and of SHA-256.

    python -m benchmark.finished_files --files 10 --megabytes 100 --folder out

Writes files of mask-like messages below FOLDER as a replay does, to measure its disk, and deletes them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.split_bag import SplitBag
from ros_ood_perception.replay.state import file_digest

TOPIC = "/perception_node/output/semantic/mask"
HEIGHT, WIDTH = 720, 1280


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=whole(1, 1000), default=10)
    parser.add_argument("--megabytes", type=whole(1, 10_000), default=100, help="of each file")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on the disk that is measured")
    options = parser.parse_args()
    types = message_types()
    pixels = np.random.default_rng(0).integers(0, 12, HEIGHT * WIDTH, np.uint8)
    image = types("sensor_msgs/msg/Image", height=HEIGHT, width=WIDTH, encoding="mono8", step=WIDTH, data=pixels)
    raw = types.serialized(image)
    synced, fsync = 0.0, os.fsync

    def timed(descriptor: Any) -> None:
        nonlocal synced
        started = time.perf_counter()
        fsync(descriptor)
        synced += time.perf_counter() - started

    rows: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, patch.object(os, "fsync", timed):
        bag = SplitBag(OutputFolder.claim(Path(folder) / "out", "benchmark"), "bag", types.typestore)
        bag.add_topic(TOPIC, "sensor_msgs/msg/Image")
        for number in range(options.files):
            synced, started = 0.0, time.perf_counter()
            for message in range(max(1, options.megabytes * 1_000_000 // len(raw))):
                bag.write(TOPIC, number * 10**9 + message, raw)
            name = bag.close_file()
            assert name is not None
            hashing = time.perf_counter()
            file_digest(bag.folder / name)
            ended = time.perf_counter()
            rows.append((ended - started, synced, ended - hashing))
    whole_s, fsync_s, digest_s = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"a file of {options.megabytes} MB, median of {options.files}: {whole_s:.2f} s to write, of which fsync "
        f"{fsync_s:.2f} s and SHA-256 {digest_s:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
