"""How cost grows with the size of frames, the number of cameras and regions, the length of a bag, and of a data set.

    python -m benchmark.growth [--what size cameras regions bag data] [--json FILE]
    python -m benchmark.growth --what bag --frames 1000 10000 100000

One table for each. Every row is a process of its own. CPU times are of all its threads, medians over frames, so other
load on the machine changes them little. Memory is the largest that was resident.

- **size**: 480x360 to 3840x2160, one camera, `camvid_small`: the engine, and what the rest of the pipeline adds
- **cameras**: 1 to 12 at 720p on one engine, in turn
- **regions**: obstacles followed on the ground, 1 to 256 in a frame
- **bag**: a replay of `--frames` small frames with a tiny network, so that reading and writing are what counts
- **data**: 100 to 10,000 labelled frames: to open the set, and to read a frame
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.process_memory import peak_resident_bytes
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.number_arguments import whole

Row = dict[str, float | str]
SIZES = ((360, 480), (720, 1280), (1080, 1920), (2160, 3840))
CAMERAS = (1, 3, 6, 12)
REGIONS = (1, 4, 16, 64, 256)
DATA_FRAMES = (100, 1000, 10_000)
FRAMES = 15
"""Of a row that runs the network."""
BUNDLE = package_file("models/camvid_small")
ROOT = Path(__file__).resolve().parents[1]


def cpu_ms(call: Callable[[int], object], times: int) -> float:
    """Median CPU milliseconds of a call, after two others."""
    found = []
    for number in range(times + 2):
        begun = time.process_time()
        call(number)
        found.append((time.process_time() - begun) * 1e3)
    return statistics.median(found[2:])


def pipelines(cameras: int) -> tuple[Any, list[Any]]:
    """An engine and the pipelines of its cameras, with the node's default settings."""
    from ros_ood_perception.bundle.model_bundle import read_bundle
    from ros_ood_perception.inference.opening import open_engine
    from ros_ood_perception.parameters.declarations import DECLARATIONS
    from ros_ood_perception.parameters.settings import live_settings
    from ros_ood_perception.pipeline.camera_pipeline import CameraPipeline

    bundle = read_bundle(BUNDLE)
    engine = open_engine(bundle, "onnxruntime")
    live = live_settings({declared.name: declared.default_value for declared in DECLARATIONS})
    settings, classes = live.pipeline_settings(bundle.description), len(bundle.description.classes)
    return engine, [CameraPipeline(engine, classes, bundle.description.input, settings) for _ in range(cameras)]


def of_size(size: tuple[int, int]) -> Row:
    """A frame's engine, and the rest: regions, tracks, mask and score at its size."""
    from ros_ood_perception.inference.parity import fixed_frames

    engine, [pipeline] = pipelines(1)
    frame = fixed_frames(*size, 1)[0]

    def whole_frame(number: int) -> object:
        result = pipeline(frame, number * 10**8, "camera").perception
        return result.semantic, result.anomaly_mask

    alone = cpu_ms(lambda _: engine.run(frame[None]), FRAMES)
    return {"engine, ms": alone, "with masks and obstacles, ms": cpu_ms(whole_frame, FRAMES)}


def of_cameras(cameras: int) -> Row:
    """A frame of each camera in turn."""
    from ros_ood_perception.inference.parity import fixed_frames

    _, made = pipelines(cameras)
    frames = fixed_frames(720, 1280)

    def turn(number: int) -> None:
        for camera, pipeline in enumerate(made):
            _ = pipeline(frames[camera % len(frames)], number * 10**8, "camera").perception.semantic

    return {"a frame, ms": cpu_ms(turn, max(3, FRAMES // cameras)) / cameras}


def of_regions(regions: int) -> Row:
    """Frames of a drive with that many regions, followed on the ground."""
    from benchmark.obstacles.tracking import following_ms

    return {"p50, ms": following_ms(regions, 200)}


def small_bundle(folder: Path) -> Path:
    """A bundle with a tiny network in a new folder."""
    from benchmark.inference.small_bundle import DESCRIPTION, small_model

    model = small_model()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    # The description for the fuzzer lacks the third class, because no fuzzer looks at results.
    described = DESCRIPTION.replace("input:", "- {id: 2, name: car, colour: [0, 0, 142]}\ninput:", 1)
    (folder / "bundle.yaml").write_text(described.replace("MODEL", hashlib.sha256(model).hexdigest()))
    return folder


def bag_of(path: Path, frames: int) -> Path:
    """A bag of raw frames of 24x16."""
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.LATEST)
    image, header = types.types["sensor_msgs/msg/Image"], types.types["std_msgs/msg/Header"]
    stamp = types.types["builtin_interfaces/msg/Time"]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16 * 24 * 3), np.uint8)
    with Writer(path, version=9) as writer:
        connection = writer.add_connection("/camera/image_raw", image.__msgtype__, typestore=types)
        for number in range(frames):
            seconds, tenths = divmod(number, 10)
            message = image(
                header=header(stamp=stamp(sec=1_700_000_000 + seconds, nanosec=tenths * 10**8), frame_id="camera"),
                height=16,
                width=24,
                encoding="bgr8",
                is_bigendian=0,
                step=72,
                data=pixels[number % 16],
            )
            at_ns = 1_700_000_000 * 10**9 + number * 10**8
            writer.write(connection, at_ns, types.serialize_cdr(message, image.__msgtype__))
    return path


def of_bag(frames: int) -> Row:
    """A whole replay, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle, bag = small_bundle(folder / "bundle"), bag_of(folder / "bag", frames)
        code = (
            "import sys, time\n"
            "from benchmark.process_memory import peak_resident_bytes\n"
            "from ros_ood_perception.replay.command_line.main import main\n"
            "code = main()\n"
            "print('MEASURED', time.process_time(), peak_resident_bytes())\n"
            "sys.exit(code)\n"
        )
        command = [sys.executable, "-c", code, str(bag), "--bundle", str(bundle), "--out", str(folder / "out")]
        run = subprocess.run(
            [*command, "--engine", "onnxruntime"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        found = [line.split() for line in run.stdout.splitlines() if line.startswith("MEASURED")]
        if run.returncode != 0 or not found:
            raise RuntimeError(f"the replay ended with code {run.returncode}: {run.stdout[-500:]}{run.stderr[-500:]}")
        _, cpu_s, peak = found[0]
        written = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
    return {
        "a frame, ms": float(cpu_s) * 1e3 / frames,
        "memory, MB": int(peak) / 2**20,
        "written, MB": written / 2**20,
    }


def of_data(frames: int) -> Row:
    """A split of CamVid's layout with that many names of one drawn frame."""
    import cv2

    from ros_ood_perception.inference.parity import fixed_frames
    from training.data.registry import open_data_set

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for part, name, picture in (
            ("images", "frame.jpg", fixed_frames(360, 480, 1)[0]),
            ("labels", "frame.png", np.zeros((360, 480), np.uint8)),
        ):
            (folder / part).mkdir()
            cv2.imwrite(str(folder / name), picture)
            for number in range(frames):
                os.link(folder / name, folder / part / f"{number:06}{Path(name).suffix}")
        begun = time.process_time()
        data = open_data_set("camvid", folder)
        opened = (time.process_time() - begun) * 1e3
        return {"to open, ms": opened, "a frame, ms": cpu_ms(lambda number: data[number * 7 % frames], FRAMES)}


MEASURED: dict[str, tuple[Callable[[Any], Row], Callable[[argparse.Namespace], Iterable[Any]]]] = {
    "size": (of_size, lambda options: SIZES),
    "cameras": (of_cameras, lambda options: CAMERAS),
    "regions": (of_regions, lambda options: REGIONS),
    "bag": (of_bag, lambda options: options.frames),
    "data": (of_data, lambda options: DATA_FRAMES),
}


def _measured(make: Callable[[Any], Row], value: Any, pipe: Any) -> None:
    row = make(value)
    pipe.send({"memory, MB": peak_resident_bytes() / 2**20} | row)


def in_a_process(make: Callable[[Any], Row], value: Any) -> Row:
    """A row, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(make, value, sender))
    process.start()
    sender.close()
    try:
        row: Row = receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"the process of {value} ended without a result; its error is above") from error
    finally:
        process.join()
    return row


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=tuple(MEASURED), default=list(MEASURED))
    parser.add_argument("--frames", type=whole(1, 10**7), nargs="+", default=[100, 1000, 10_000], help="of the bags")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    tables: dict[str, list[Row]] = {}
    for what in options.what:
        make, values = MEASURED[what]
        for value in values(options):
            named = f"{value[1]}x{value[0]}" if isinstance(value, tuple) else f"{value:,}"
            row: Row = {what: named, **in_a_process(make, value)}
            if what not in tables:
                print(f"\n| {' | '.join(row)} |\n|{'---|' * len(row)}", flush=True)
            tables.setdefault(what, []).append(row)
            print(f"| {' | '.join(v if isinstance(v, str) else f'{v:.2f}' for v in row.values())} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
