"""What a replay costs beside the engine: frames a second of the whole, from bag to bag, over those of the engine alone.

    python benchmark/replay.py FRAMES [--bundle DIR] [--frames 100] [--rounds 3] [--jobs 1 2] [--json FILE]

FRAMES is a folder of images; they are written once into a bag of raw images, as a camera's driver would. In each round
the engine runs alone over the decoded frames, and every replay over the bag, one after the other in processes of their
own, so that a machine that is busy with other work is as busy for both; the ratio of a round is what counts, and the
median of them is printed. Starting (imports, loading the model) is not counted on either side.

The CPU seconds of a frame, of all threads of the process, are printed beside: they hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def write_frames(folder: Path, bag: Path, frames: int) -> None:
    """A bag of bgr8 images."""
    import itertools

    from ros_ood_perception.recordings.frame_source import ImageFolder
    from ros_ood_perception.recordings.split_bag import SplitBag
    from ros_ood_perception.replay.inputs import FRAMES_TOPIC, FramesInput, InputCopy

    source = FramesInput(ImageFolder(folder), 10.0)
    written = SplitBag(bag, source.typestore)
    written.add_topic(FRAMES_TOPIC, "sensor_msgs/msg/Image")
    copies = (item for item in source.items(None, None, True) if isinstance(item, InputCopy))
    for copy in itertools.islice(copies, frames):
        written.write(copy.topic, copy.time_ns, copy.raw)
    written.close_file()


def engine_alone(bundle_folder: Path, bag: Path, results: Any) -> None:
    """Frames a second of `engine.run` on frames that lie decoded in memory."""
    from ros_ood_perception.bundle import read_bundle
    from ros_ood_perception.camera_images import to_colour
    from ros_ood_perception.inference.engine import open_engine
    from ros_ood_perception.recordings.bag import Bag

    bundle, source = read_bundle(bundle_folder), Bag(bag)
    order = bundle.description.input.colour_order
    frames = [to_colour(source.deserialize(message), order) for message in source.messages(source.types)]
    engine = open_engine(bundle, "onnxruntime")
    engine.run(frames[0][None])
    started, cpu = time.perf_counter(), time.process_time()
    for frame in frames:
        engine.run(frame[None])
    results.put((len(frames) / (time.perf_counter() - started), (time.process_time() - cpu) / len(frames)))


def whole_replay(bundle_folder: Path, bag: Path, jobs: int, results: Any) -> None:
    """Frames a second from the bag to the bag of results."""
    from ros_ood_perception.replay.command_line import make_parser, open_all
    from ros_ood_perception.replay.engine_pool import EnginePool
    from ros_ood_perception.replay.run import Replay, make_room

    with tempfile.TemporaryDirectory() as out:
        arguments = [str(bag), "--bundle", str(bundle_folder), "--out", f"{out}/replay", "--engine", "onnxruntime"]
        options = make_parser().parse_args(arguments)
        opened = open_all(options)
        make_room(options.out, False, False)
        pool = EnginePool(opened.bundle, opened.engine, jobs, opened.threads, opened.fixed.gpu)
        run = Replay(opened.source, options.out, opened.plan, opened.bundle, opened.fixed, opened.live, pool)
        frames = 0

        def count() -> None:
            nonlocal frames
            frames += 1

        started, cpu = time.perf_counter(), time.process_time()
        run.run(count, lambda: False)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        pool.close()
    results.put((frames / seconds, cpu / frames))


def measured(target: Any, *arguments: Any) -> tuple[float, float]:
    """Frames a second, and CPU seconds of a frame, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=target, args=(*arguments, results))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{target.__name__} ended with {process.exitcode}")
    rate, cpu = results.get()
    return float(rate), float(cpu)


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames_folder", type=Path, metavar="FRAMES")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parent.parent / "models/camvid_small")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    cpu_rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / "frames"
        write_frames(options.frames_folder, bag, options.frames)
        for number in range(options.rounds):
            found = {"engine alone": measured(engine_alone, options.bundle, bag)}
            found |= {f"replay --jobs {n}": measured(whole_replay, options.bundle, bag, n) for n in options.jobs}
            rows.append({name: rate for name, (rate, _) in found.items()})
            cpu_rows.append({name: cpu for name, (_, cpu) in found.items()})
            print(f"round {number + 1}: " + ", ".join(f"{name} {rate:.2f} Hz" for name, (rate, _) in found.items()))
    ratios = {
        name: statistics.median(row[name] / row["engine alone"] for row in rows) for name in rows[0] if "jobs" in name
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} of the engine alone (median of {len(rows)} rounds)")
    # With more jobs, most of it is in other processes.
    cpu_ms = {
        name: statistics.median(row[name] for row in cpu_rows) * 1e3
        for name in ("engine alone", "replay --jobs 1")
        if name in cpu_rows[0]
    }
    print("CPU of a frame: " + ", ".join(f"{name} {value:.1f} ms" for name, value in cpu_ms.items()))
    if options.json is not None:
        written = {"rounds": rows, "ratios": ratios, "cpu_ms": cpu_ms}
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
