"""What OpenVINO and 8-bit graphs would gain on this CPU over ONNX Runtime in float32, and what they would cost.

    python benchmark/inference/cpu_engines.py [BUNDLE] [--rounds 20] [--threads 0] [--json FILE]

The package runs a bundle on the CPU with ONNX Runtime in float32 and with nothing else; this is what that was decided
by. Every round runs each engine once on one 720p frame, so other work on the machine slows all alike; ratios are
of the medians. Labels and scores are compared with ONNX Runtime's. OpenVINO is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import ParityMeter, fixed_frames
from ros_ood_perception.number_arguments import whole

ROOT = Path(__file__).resolve().parents[2]
FRAME = (720, 1280)

Run = Callable[[NDArray[np.uint8]], EngineOutput]


def openvino_run(model: bytes, threads: int, precision: str) -> Run | None:
    """The graph in OpenVINO's CPU plugin, or None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(model=model), "CPU", settings)
    request = compiled.create_infer_request()

    def run(images: NDArray[np.uint8]) -> EngineOutput:
        found = request.infer({"image": images})
        return EngineOutput(found["semantic"].copy(), found["anomaly"].copy())

    return run


def runs_of(bundle: Bundle, threads: int) -> dict[str, Run]:
    """By name; ONNX Runtime in float32 first."""
    int8 = bundle.description.variant("onnx", "int8")
    quantised = None if int8 is None else bundle.variant_bytes(int8)
    runs: dict[str, Run | None] = {"ONNX Runtime fp32": OnnxRuntimeEngine(bundle, threads).run}
    if quantised is not None:
        runs["ONNX Runtime int8"] = OnnxRuntimeEngine(replace(bundle, model=quantised), threads).run
    runs["OpenVINO fp32"] = openvino_run(bundle.model, threads, "f32")
    if quantised is not None:
        runs["OpenVINO int8"] = openvino_run(quantised, threads, "f32")
    return {name: run for name, run in runs.items() if run is not None}


def measured(bundle: Bundle, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each engine."""
    runs = runs_of(bundle, threads)
    frames = fixed_frames(*FRAME)
    first = next(iter(runs.values()))
    meters = {name: ParityMeter() for name in runs}
    for frame in frames:
        expected = first(frame[None])
        for name, run in runs.items():
            meters[name].add(expected, run(frame[None]))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(frames[number % len(frames)][None])
            seconds[name].append(time.perf_counter() - started)
    reference = statistics.median(next(iter(seconds.values())))
    return [
        {
            "engine": name,
            "median_ms": statistics.median(times) * 1e3,
            "x_faster": reference / statistics.median(times),
            "label_agreement": meters[name].parity().label_agreement,
            "mean_score_difference": meters[name].parity().mean_score_difference,
        }
        for name, times in seconds.items()
    ]


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models" / "camvid_small")
    parser.add_argument("--rounds", type=whole(1, 10**6), default=20)
    parser.add_argument("--threads", type=whole(0, 256), default=0, help="0: every CPU that this process may use")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    threads = options.threads or len(os.sched_getaffinity(0))
    rows = measured(read_bundle(options.bundle), threads, options.rounds)
    table = Table(title=f"{options.bundle.name}, one 720p frame, {threads} threads", title_justify="left")
    for column in ("engine", "median ms", "x faster", "labels as fp32", "mean score difference"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for row in rows:
        table.add_row(
            row["engine"],
            f"{row['median_ms']:.1f}",
            f"{row['x_faster']:.2f}",
            f"{row['label_agreement']:.3%}",
            f"{row['mean_score_difference']:.1e}",
        )
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)
    if options.json is not None:
        write_json(options.json, rows, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
