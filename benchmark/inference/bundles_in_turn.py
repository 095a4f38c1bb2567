"""How much CPU time bundles take against the first one, on ONNX Runtime: one frame each in turn.

    python benchmark/inference/bundles_in_turn.py BUNDLE OTHER... [--rounds 60] [--size 480 640]

An older bundle: `git archive COMMIT models/NAME | tar -x -C FOLDER`. Processor time of all threads; the ratio is of the
medians, without the first five rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.number_arguments import whole

WARM_UP = 5


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--rounds", type=whole(WARM_UP + 1, 10**6), default=60)
    parser.add_argument("--size", type=whole(1, 10**5), nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    options = parser.parse_args()
    engines = [open_engine(read_bundle(folder), "onnxruntime") for folder in options.bundles]
    frame = np.random.default_rng(0).integers(0, 256, (1, *options.size, 3), np.uint8)
    taken: list[list[float]] = [[] for _ in engines]
    for _ in range(options.rounds):
        for engine, seconds in zip(engines, taken, strict=True):
            started = time.process_time()
            engine.run(frame)
            seconds.append(time.process_time() - started)
    medians = [statistics.median(seconds[WARM_UP:]) for seconds in taken]
    for folder, median in zip(options.bundles, medians, strict=True):
        print(f"{folder}: {1000 * median:.1f} ms of CPU time, {median / medians[0]:.2f} of the first's")


if __name__ == "__main__":
    main()
