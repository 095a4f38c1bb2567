"""What OpenVINO and 8-bit graphs would gain on this CPU over ONNX Runtime in float32, and what they would cost.

    python benchmark/inference/cpu_engines.py [BUNDLE] [--calibration camvid:FOLDER/train]
      [--measure camvid:FOLDER/test] [--measure camvid_static:FOLDER] [--rounds 20] [--threads 0] [--json FILE]

The package runs a bundle on the CPU with ONNX Runtime in float32 and with nothing else; this is what that was decided
by. Every round runs each engine once on one 720p frame, so other work on the machine slows all alike; ratios are
of the medians. Labels and scores are compared with ONNX Runtime's. OpenVINO is left out where it is not installed.

- **ONNX Runtime int8**: the bundle's int8 graph, symmetric as TensorRT wants it. Only where the bundle has one.
- **dynamic**: ONNX Runtime's own form without calibration. Convolutions choose their ranges for each frame.
- **U8S8**, and **U8S8 narrow**: ONNX Runtime's own form with bytes between the convolutions, weights signed and by
  output channel, calibrated on frames of --calibration. Narrow uses 7 bits of the weights, because the products of CPUs
  without VNNI saturate. The last convolutions before the logits stay float32, as in the bundle's form.

With --measure, mIoU of the classes, AP and FPR95 of the score are measured for each engine, where the set has labels of
that kind. All at the bundle's input size of 4:3, so frames of other aspects are stretched.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import ParityMeter, fixed_frames
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.number_arguments import whole
from training.bundles.precisions import (
    CALIBRATION_FRAMES,
    CalibrationFrames,
    spread,
    unquantised_convolutions,
    without_quantiser_hints,
)
from training.data.arguments import data_argument, open_frames
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.semantic import ConfusionMatrix

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


def own_eight_bit_graphs(model: bytes, calibration: LabelledFrames | None) -> dict[str, bytes]:
    """A bundle's float32 graph in ONNX Runtime's own 8-bit forms, by name."""
    graph = onnx.load_from_string(model)
    kept = unquantised_convolutions(graph.graph)
    shared: dict[str, Any] = {"op_types_to_quantize": ["Conv"], "nodes_to_exclude": kept}
    found = {}
    with tempfile.TemporaryDirectory() as folder, without_quantiser_hints():
        source, path = Path(folder) / "model.onnx", Path(folder) / "eight_bits.onnx"
        source.write_bytes(model)
        quantize_dynamic(source, path, weight_type=QuantType.QUInt8, **shared)
        found["dynamic"] = path.read_bytes()
        for name, narrow in (("U8S8", False), ("U8S8 narrow", True)) if calibration is not None else ():
            quantize_static(
                source,
                path,
                CalibrationFrames(spread(calibration, CALIBRATION_FRAMES)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=narrow,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                **shared,
            )
            found[name] = path.read_bytes()
    return found


def runs_of(bundle: Bundle, threads: int, calibration: LabelledFrames | None) -> dict[str, Run]:
    """By name; ONNX Runtime in float32 first."""
    int8 = bundle.description.variant("onnx", "int8")
    quantised = None if int8 is None else bundle.variant_bytes(int8)
    runs: dict[str, Run | None] = {"ONNX Runtime fp32": OnnxRuntimeEngine(bundle, threads).run}
    if quantised is not None:
        runs["ONNX Runtime int8"] = OnnxRuntimeEngine(replace(bundle, model=quantised), threads).run
    for name, model in own_eight_bit_graphs(bundle.model, calibration).items():
        runs[f"ONNX Runtime {name}"] = OnnxRuntimeEngine(replace(bundle, model=model), threads).run
    runs["OpenVINO fp32"] = openvino_run(bundle.model, threads, "f32")
    if quantised is not None:
        runs["OpenVINO int8"] = openvino_run(quantised, threads, "f32")
    return {name: run for name, run in runs.items() if run is not None}


def quality(run: Run, frames: LabelledFrames, classes: int) -> dict[str, float]:
    """mIoU, AP and FPR95 on a set, in percent; those for which it has labels."""
    semantic, anomaly = ConfusionMatrix(classes), ExactPixelMetrics()
    for frame in tracked(frames, frames.title):
        size = (frame.labels.shape[0], frame.labels.shape[1])
        output = run(np.ascontiguousarray(frame.image)[None])
        perception = FramePerception(size, output.semantic[0], output.anomaly_score[0], 1.0)
        semantic.update(perception.semantic, frame.labels)
        anomaly.update(perception.anomaly_score, frame.anomaly)
    pixels = anomaly.compute()
    found = {"mIoU": semantic.mean_iou(), "AP": pixels.ap, "FPR95": pixels.fpr95}
    return {f"{frames.title}, {name}": 100 * value for name, value in found.items() if not math.isnan(value)}


def measured(
    bundle: Bundle, threads: int, rounds: int, calibration: LabelledFrames | None, sets: Sequence[LabelledFrames]
) -> list[dict[str, Any]]:
    """One row for each engine."""
    runs = runs_of(bundle, threads, calibration)
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
    classes = len(bundle.description.classes)
    reference = statistics.median(next(iter(seconds.values())))
    return [
        {
            "engine": name,
            "median_ms": statistics.median(times) * 1e3,
            "x_faster": reference / statistics.median(times),
            "label_agreement": meters[name].parity().label_agreement,
            "mean_score_difference": meters[name].parity().mean_score_difference,
            "quality": {k: v for frames in sets for k, v in quality(runs[name], frames, classes).items()},
        }
        for name, times in seconds.items()
    ]


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models" / "camvid_small")
    parser.add_argument("--rounds", type=whole(1, 10**6), default=20)
    parser.add_argument("--threads", type=whole(0, 256), default=0, help="0: every CPU that this process may use")
    parser.add_argument("--calibration", type=data_argument, metavar="NAME:PATH[@SPLIT]", help="frames for U8S8")
    parser.add_argument("--measure", type=data_argument, action="append", default=[], metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    threads = options.threads or len(os.sched_getaffinity(0))
    calibration = None if options.calibration is None else open_frames(options.calibration, ())
    sets = [open_frames(argument, ()) for argument in options.measure]
    rows = measured(read_bundle(options.bundle), threads, options.rounds, calibration, sets)
    table = Table(title=f"{options.bundle.name}, one 720p frame, {threads} threads", title_justify="left")
    of_sets = list(rows[0]["quality"])
    for column in ("engine", "median ms", "x faster", "labels as fp32", "mean score difference", *of_sets):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for row in rows:
        table.add_row(
            row["engine"],
            f"{row['median_ms']:.1f}",
            f"{row['x_faster']:.2f}",
            f"{row['label_agreement']:.3%}",
            f"{row['mean_score_difference']:.1e}",
            *(f"{row['quality'][name]:.2f}" for name in of_sets),
        )
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)
    if options.json is not None:
        write_json(options.json, rows, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
