"""How much CPU time bundles take against the first one, on ONNX Runtime: one frame each in turn.

    python benchmark/inference/bundles_in_turn.py BUNDLE OTHER... [--rounds 60] [--size HEIGHTxWIDTH ...]

`--size` is that of the frame, and each bundle runs it at the input size that fits. With several sizes each bundle takes
a frame of each, and the ratios are to the first bundle at the first size.

An older bundle: `git archive COMMIT models/NAME | tar -x -C FOLDER`. Processor time of all threads; the ratio is of the
medians, without the first five rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.number_arguments import image_size, whole

WARM_UP = 5


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--rounds", type=whole(WARM_UP + 1, 10**6), default=60)
    parser.add_argument("--size", type=image_size, nargs="+", default=[(480, 640)], metavar="HEIGHTxWIDTH")
    options = parser.parse_args()
    # By their numbers: a bundle that is given twice shows the noise.
    engines = {n: open_engine(read_bundle(folder), "onnxruntime") for n, folder in enumerate(options.bundles)}
    random = np.random.default_rng(0)
    frames = {size: random.integers(0, 256, (1, *size, 3), np.uint8) for size in options.size}
    taken: dict[tuple[int, tuple[int, int]], list[float]] = {case: [] for case in product(engines, frames)}
    for _ in range(options.rounds):
        for (number, engine), (size, frame) in product(engines.items(), frames.items()):
            started = time.process_time()
            engine.run(frame)
            taken[number, size].append(time.process_time() - started)
    medians = {case: statistics.median(seconds[WARM_UP:]) for case, seconds in taken.items()}
    first = next(iter(medians.values()))
    for (number, size), median in medians.items():
        case = f"{options.bundles[number]}, {size[0]}x{size[1]}"
        print(f"{case}: {1000 * median:.1f} ms of CPU time, {median / first:.2f} of the first's")


if __name__ == "__main__":
    main()
