"""Are the frames of several cameras faster as one batch or in turn? And are the results the same, bit for bit?

    python -m benchmark.inference.camera_batches [--bundle FOLDER] [--engine NAME] [--cameras 3] [--size 720 1280]

Batch and turns alternate, so that other work on the machine burdens both; what is printed is their ratio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.number_arguments import whole


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--cameras", type=whole(1, 10**6), default=3)
    parser.add_argument("--size", type=whole(1, 10**6), nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repetitions", type=whole(1, 10**6), default=30)
    options = parser.parse_args()
    engine = open_engine(read_bundle(options.bundle), options.engine)
    shape = (options.cameras, *options.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    # What the node would do: a batch is gathered from the messages, a single frame is a view of one.
    def batch() -> None:
        engine.run(np.stack(list(images)))

    def turns() -> None:
        for image in images:
            engine.run(image[None])

    batched = engine.run(images)
    singles = [engine.run(image[None]) for image in images]
    equal_ids = all(np.array_equal(batched.semantic[i], s.semantic[0]) for i, s in enumerate(singles))
    difference = max(np.abs(batched.anomaly_score[i] - s.anomaly_score[0]).max() for i, s in enumerate(singles))
    ways: dict[str, Callable[[], None]] = {"batch": batch, "turns": turns}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repetitions):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - started) * 1e3)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    print(f"engine {engine.name}, {options.cameras} cameras {options.size[1]}x{options.size[0]}")
    print(f"one batch {medians['batch']:.1f} ms, in turn {medians['turns']:.1f} ms (medians)")
    print(f"batch / turns: {medians['batch'] / medians['turns']:.3f}")
    print(f"class ids equal: {equal_ids}; largest difference of the scores: {difference:.3g}")
    engine.close()


if __name__ == "__main__":
    main()
