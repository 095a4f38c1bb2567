"""Throughput of a replay, from bag to bag, as a share of that of the engine alone.

    python benchmark/replay.py FRAMES [--bundle DIR] [--frames 60] [--rounds 5] [--jobs 1 2] [--json FILE]

FRAMES is a folder of images, which are written once into a bag of raw images, as a camera's driver would. The engine
alone (on decoded frames) and every replay (on the bag) are processes of their own that run in turn, so that other load
on the machine is the same for both. The median of the rounds' ratios is printed. Starting (imports, loading the model)
is not counted; ending the bag is.

The CPU seconds of a frame, of all threads of the process, are printed as well: they hardly depend on other load. Where
the engine alone fills the cores, their ratio is the upper limit for a replay.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.number_arguments import whole

ENGINE = "engine alone"


def write_frames(folder: Path, bag: Path, frames: int) -> None:
    """Write the images of a folder into a bag, as bgr8."""
    from ros_ood_perception.files.output_folder import OutputFolder
    from ros_ood_perception.recordings.image_sequence import ImageFolder
    from ros_ood_perception.recordings.split_bag import SplitBag
    from ros_ood_perception.replay.inputs import FRAMES_TOPIC, InputCopy, SequenceInput

    source = SequenceInput(ImageFolder(folder), 10.0)
    written = SplitBag(OutputFolder.claim(bag.parent, "benchmark.replay"), bag.name, source.typestore)
    written.add_topic(FRAMES_TOPIC, "sensor_msgs/msg/Image")
    copies = (item for item in source.items(None, None, source.copied) if isinstance(item, InputCopy))
    for copy in itertools.islice(copies, frames):
        written.write(copy.topic, copy.time_ns, copy.raw)
    written.close_file()


def engine_alone(bundle_folder: Path, bag: Path, scratch: Path) -> Callable[[], int]:
    """A function that runs `engine.run` on decoded frames in memory and returns their number."""
    from ros_ood_perception.bundle.model_bundle import read_bundle
    from ros_ood_perception.camera.raw_image import to_colour
    from ros_ood_perception.inference.opening import open_engine
    from ros_ood_perception.recordings.bag import Bag

    bundle, source = read_bundle(bundle_folder), Bag(bag)
    order = bundle.description.input.colour_order
    frames = [to_colour(source.deserialize(message), order) for message in source.messages(source.types)]
    engine = open_engine(bundle, "onnxruntime")
    engine.run(frames[0][None])

    def run() -> int:
        for frame in frames:
            engine.run(frame[None])
        return len(frames)

    return run


def whole_replay(bundle_folder: Path, bag: Path, scratch: Path, jobs: int) -> Callable[[], int]:
    """A function that replays the bag into a folder below `scratch` and returns the number of frames."""
    from ros_ood_perception.replay.command_line.opening import open_all
    from ros_ood_perception.replay.command_line.options import make_parser
    from ros_ood_perception.replay.engine_pool import EnginePool
    from ros_ood_perception.replay.run import Replay
    from ros_ood_perception.replay.state import make_room

    out = str(scratch / f"jobs_{jobs}")
    arguments = [str(bag), "--bundle", str(bundle_folder), "--out", out, "--engine", "onnxruntime"]
    options = make_parser().parse_args(arguments)
    opened = open_all(options)
    pool = EnginePool(opened.bundle, opened.engine, jobs, opened.threads, opened.fixed.gpu)

    def run() -> int:
        frames = 0

        def count() -> None:
            nonlocal frames
            frames += 1

        output = make_room(options.out, False, True)
        replay = Replay(opened.source, output, opened.plan, opened.bundle, opened.fixed, opened.live, pool)
        replay.run(count, lambda: False)
        return frames

    return run


class Measured:
    """One of the two functions above in its own process, where it waits for its turn."""

    def __init__(self, make: Callable[..., Callable[[], int]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, arguments, other))
        self._process.start()
        other.close()
        self._pipe.recv()

    def __call__(self) -> tuple[float, float]:
        """Run it; returns frames a second and CPU seconds of a frame."""
        self._pipe.send(True)
        rate, cpu = self._pipe.recv()
        return rate, cpu

    def close(self) -> None:
        """End the process and its children."""
        self._pipe.send(False)
        self._process.join()


def _serve(make: Callable[..., Callable[[], int]], arguments: tuple[Any, ...], pipe: Any) -> None:
    run = make(*arguments)
    pipe.send(None)
    while pipe.recv():
        started, cpu = time.perf_counter(), time.process_time()
        frames = run()
        pipe.send((frames / (time.perf_counter() - started), (time.process_time() - cpu) / frames))


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames_folder", type=Path, metavar="FRAMES")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parents[1] / "models/camvid_small")
    parser.add_argument("--frames", type=whole(1, 10**6), default=60)
    parser.add_argument("--rounds", type=whole(1, 10**6), default=5)
    parser.add_argument("--jobs", type=whole(1, 10**6), nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    cpu_rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / "frames"
        write_frames(options.frames_folder, bag, options.frames)
        common = (options.bundle, bag, Path(folder))
        measured = {ENGINE: Measured(engine_alone, *common)}
        measured |= {f"replay --jobs {jobs}": Measured(whole_replay, *common, jobs) for jobs in options.jobs}
        for number in range(options.rounds):
            # In alternating order: other load can change within a round.
            names = list(measured)[:: 1 if number % 2 else -1]
            found = {name: measured[name]() for name in names}
            rows.append({name: found[name][0] for name in measured})
            cpu_rows.append({name: found[name][1] for name in measured})
            print(
                f"round {number + 1}: " + ", ".join(f"{name} {rate:.2f} Hz" for name, rate in rows[-1].items()),
                flush=True,
            )
        for one in measured.values():
            one.close()
    ratios = {name: statistics.median(row[name] / row[ENGINE] for row in rows) for name in rows[0] if name != ENGINE}
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} of the engine alone (median of {len(rows)} rounds)")
    # With more jobs, most of the CPU time is in other processes.
    cpu_ms = {
        name: statistics.median(row[name] for row in cpu_rows) * 1e3
        for name in (ENGINE, "replay --jobs 1")
        if name in cpu_rows[0]
    }
    print("CPU of a frame: " + ", ".join(f"{name} {value:.1f} ms" for name, value in cpu_ms.items()))
    if len(cpu_ms) == 2:
        cpu_ratio = statistics.median(row[ENGINE] / row["replay --jobs 1"] for row in cpu_rows)
        print(f"the engine's share of the replay's CPU: {cpu_ratio:.2f} (median of {len(rows)} rounds)")
    if options.json is not None:
        written = {"rounds": rows, "ratios": ratios, "cpu_ms": cpu_ms}
        write_json(options.json, written, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
