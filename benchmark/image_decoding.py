"""The cost of the two defences against hostile images: the checks before the decoder, and the decoder process.

    python -m benchmark.image_decoding [--bundle models/camvid_small] [--rounds 20] [--json FILE]

Each round compares OpenCV alone; the image checked, made minimal and decoded in this process, as in the node; and the
same in a decoder process, as in a replay. The CPU engine on a frame of the same size is measured for scale. The figures
are CPU time of all threads and of the decoder process, which hardly depends on other load. That of the decoder is read
from /proc in nanoseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.fuzzing.image_corpus import jpeg_file, jpeg_segments
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_bytes import check_image_bytes
from ros_ood_perception.camera.image_decoder import colour_of, decode_colour
from ros_ood_perception.camera.image_formats.jpeg import MAX_SCANS
from ros_ood_perception.inference.engine import InferenceEngine
from ros_ood_perception.inference.opening import open_engine

SIZES = ((480, 360), (1280, 720), (1920, 1080))
MAX_PIXELS = 4096 * 4096
REPEATS = 5


def picture(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 with the detail and noise of a camera image."""
    generator = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(3, 9):
        coarse = generator.normal(0, 160 / 1.7**octave, (2**octave * 9 // 16, 2**octave, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128 + generator.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def longest_jpeg(side: int) -> bytes:
    """A small file that keeps a decoder busy: the last scan of a progressive JPEG, repeated up to the limit."""
    image = np.zeros((side, side, 3), np.uint8)
    segments = jpeg_segments(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    scans = [part for part in segments if part[0] == 0xDA]
    return jpeg_file(segments + [scans[-1]] * (MAX_SCANS - len(scans)))


def decoder_seconds(decoder: DecoderProcess) -> float:
    """CPU time of the decoder process, seconds."""
    return int(Path(f"/proc/{decoder.pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def ways_of(
    data: bytes, image: np.ndarray, decoder: DecoderProcess, engine: InferenceEngine
) -> dict[str, Callable[[], Any]]:
    """Name to the compared function."""

    def checked() -> np.ndarray:
        check_image_bytes(data, MAX_PIXELS)
        return colour_of(check_image_bytes(data, MAX_PIXELS, check_pixels=False))

    return {
        "alone": lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
        "checked": checked,
        "process": lambda: decoder.colour(data, MAX_PIXELS),
        "engine": lambda: engine.run(image[None]),
    }


def measured(ways: dict[str, Callable[[], Any]], decoder: DecoderProcess, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each function: CPU time (median of the rounds) and wall time (minimum)."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun, used = time.perf_counter(), time.process_time() + decoder_seconds(decoder)
            for _ in range(REPEATS):
                way()
            used = time.process_time() + decoder_seconds(decoder) - used
            found[name].append((used / REPEATS * 1e3, (time.perf_counter() - begun) / REPEATS * 1e3))
    return {
        name: {
            "cpu_ms": round(statistics.median(cpu for cpu, _ in times), 3),
            "least_wall_ms": round(min(wall for _, wall in times), 3),
        }
        for name, times in found.items()
    }


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.image_decoding", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--bundle", type=Path, default=root / "models" / "camvid_small", help="of the engine's frame")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    engine = open_engine(read_bundle(options.bundle), "onnxruntime")
    table = Table("size", "kind", "OpenCV alone", "checked", "in a process", "CPU engine", title="ms CPU (least wall)")
    results = []
    with DecoderProcess() as decoder:
        for width, height in SIZES:
            image = picture(width, height)
            for ending, settings in ((".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]), (".png", [])):
                data = cv2.imencode(ending, image, settings)[1].tobytes()
                ways = ways_of(data, image, decoder, engine)
                if not all(np.array_equal(ways[name](), ways["alone"]()) for name in ("checked", "process")):
                    print(f"image_decoding: {width}x{height}{ending}: the ways give other pixels", file=sys.stderr)
                    return 1
                times = measured(ways, decoder, options.rounds)
                results.append({"width": width, "height": height, "kind": ending, "bytes": len(data), **times})
                table.add_row(
                    f"{width}x{height}",
                    ending,
                    *(f"{times[name]['cpu_ms']:.2f} ({times[name]['least_wall_ms']:.2f})" for name in ways),
                )
    Console().print(table)
    hostile = longest_jpeg(4096)
    used = time.process_time()
    decode_colour(hostile, MAX_PIXELS)
    print(f"4096x4096 JPEG of {len(hostile)} bytes with {MAX_SCANS} scans: {time.process_time() - used:.2f} s CPU")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
