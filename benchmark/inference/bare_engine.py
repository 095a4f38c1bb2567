"""The engine alone in a process of its own, for `benchmark.node`: runs frames that lie in memory when it is told to.

    python -m benchmark.inference.bare_engine --bundle FOLDER --size 720 1280 --seed 0

Prints `ready`. For each line `N` on standard input it runs N frames and prints their times in nanoseconds, then the CPU
seconds of the process, as one line of JSON. Ends at the end of its input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmark.camera_process import pictures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=Path, help="folder of images (default: noise)")
    parser.add_argument("--threads", type=int, default=0, help="0: every CPU")
    options = parser.parse_args()

    from ros_ood_perception.bundle.model_bundle import read_bundle
    from ros_ood_perception.inference.opening import open_engine

    engine = open_engine(read_bundle(options.bundle), "onnxruntime", options.threads)
    frames = pictures(tuple(options.size), options.seed, options.frames)
    for frame in frames:
        engine.run(frame[None])
    print("ready", flush=True)
    for line in sys.stdin:
        times, cpu_s = [], time.process_time()
        for number in range(int(line)):
            started = time.perf_counter_ns()
            engine.run(frames[number % len(frames)][None])
            times.append(time.perf_counter_ns() - started)
        print(json.dumps({"times_ns": times, "cpu_s": time.process_time() - cpu_s}), flush=True)


if __name__ == "__main__":
    main()
