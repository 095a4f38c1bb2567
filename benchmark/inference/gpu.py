"""How fast the segmenters are on a GPU, rung by rung, and whether every precision still computes the same.

    python benchmark/inference/gpu.py [--json FILE] [--data NAME:PATH ...] [--models small resnet18] [--sizes HxW ...]

The ladder, at each size, for batches of 1 and 3: torch in float32 without TensorFloat-32, in half precision
channels-last, in a CUDA graph, through `torch.compile(mode="max-autotune")`; TensorRT in float32 and in half precision,
each without and with a CUDA graph. Median and 99th percentile of the GPU's own clock, transfers apart, and the share of
the roofline that the median reaches: arithmetic and memory bandwidth as measured on this GPU by a matrix product and a
copy. Weights are random: speed does not depend on them. The network's input is the frame rounded up to its multiple.

With --data the bundle that ships (or --bundle) runs in every precision that it has over those frames: labels and scores
against ONNX Runtime and, where the frames have anomalies, AP and FPR95. Its half and 8-bit graphs run on the CPU as
well; `--models --data ...` does only this, and needs no GPU for that part.

--smoke runs a small case on whatever there is, the CPU included, to try the script itself; its times mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions, InferenceEngine
from ros_ood_perception.inference.engine_names import PRECISIONS
from ros_ood_perception.inference.engine_of_sizes import EngineOfSizes
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.parity import ParityMeter, fixed_frames
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.inference.precision_graph import graph_of_precision
from ros_ood_perception.number_arguments import image_size, whole
from training.bundles.onnx_export import onnx_bytes
from training.bundles.precisions import half_network
from training.data.arguments import DataArgument, data_argument, open_frames
from training.metrics.pixel_exact import ExactPixelMetrics
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.encoders import ENCODER_STRIDES
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

ROOT = Path(__file__).resolve().parents[2]
SIZES = ((512, 1024), (720, 1280), (1080, 1920), (1024, 2048))
BATCHES = (1, 3)
CLASSES = 19
REPEATS = 300
MODELS = {
    "small": SegmenterConfig(
        backbone_settings={
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 128, 240],
            "depths": [2, 2, 2, 2],
            "layer_type": "basic",
        },
        decoder_channels=64,
        pooling_bins=(1,),
    ),
    "resnet18": SegmenterConfig(pooling_bins=(1,)),
}


@dataclass(frozen=True)
class Case:
    """What every rung runs."""

    model: str
    frame: tuple[int, int]
    batch: int


@dataclass(frozen=True)
class Roofline:
    """What this GPU does at best: half-precision matrix products, and copies (read and write counted)."""

    flops: float
    bytes_per_s: float


@dataclass(frozen=True)
class Rung:
    """One way of running a case. Times in milliseconds; null where a rung does not measure them."""

    rung: str
    median: float
    p99: float
    to_device: float | None
    to_host: float | None
    roofline: float | None
    share: float | None


def segmenter(name: str, frame: tuple[int, int]) -> DeployedSegmenter:
    """Random weights, always the same."""
    torch.manual_seed(0)
    network = LadderSegmenter(MODELS[name], CLASSES)
    # Of which the pyramid pooling has whole cells.
    multiple = ENCODER_STRIDES[-1] * math.lcm(*network.config.pooling_bins)
    size = (-(-frame[0] // multiple) * multiple, -(-frame[1] // multiple) * multiple)
    return DeployedSegmenter(network, size, 1.0).eval()


def work_of(model: DeployedSegmenter, batch: int) -> tuple[float, float]:
    """Floating-point operations of one inference, and the bytes that its layers read and write in half precision.

    Every layer that computes is taken to read its input and write its output once; what a compiler fuses needs less.
    """
    moved = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal moved
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            moved += 2 * (inputs[0].numel() + output.numel())
            moved += 2 * sum(parameter.numel() for parameter in module.parameters())

    handles = [module.register_forward_hook(count) for module in model.modules()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.segmenter(torch.zeros(1, 3, *model.input_size))
    for handle in handles:
        handle.remove()
    return float(counter.get_total_flops()) * batch, float(moved) * batch


def measured_roofline(device: str) -> Roofline:
    """By a large matrix product and a large copy."""
    side, size = (8192, 1 << 28) if device == "cuda" else (256, 1 << 20)
    kind = torch.float16 if device == "cuda" else torch.float32
    a = torch.randn(side, side, device=device, dtype=kind)
    source = torch.zeros(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = _median(_times(lambda: torch.matmul(a, a), device, 30))
    copied = _median(_times(lambda: target.copy_(source), device, 30))
    return Roofline(2 * side**3 / (product * 1e-3), 2 * size / (copied * 1e-3))


def _times(run: Callable[[], Any], device: str, repeats: int) -> list[float]:
    """Milliseconds on the GPU's clock, or the host's where there is none."""
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        if device == "cuda":
            first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            run()
            second.record()
            second.synchronize()
            times.append(float(first.elapsed_time(second)))
        else:
            started = time.perf_counter()
            run()
            times.append((time.perf_counter() - started) * 1e3)
    return times


def _median(times: list[float]) -> float:
    return float(np.median(times))


def torch_rungs(model: DeployedSegmenter, images: Tensor, device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Eager, half, graph and compiled; each is made when its turn comes."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    whole = copy.deepcopy(model).to(device)
    yield "torch fp32", lambda: whole(images)
    half: Any = half_network(model)
    half = half.to(device, memory_format=torch.channels_last)
    yield "torch fp16 channels-last", lambda: half(images)
    if device != "cuda":
        return
    for _ in range(3):
        half(images)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        half(images)
    yield "torch fp16, CUDA graph", graph.replay
    compiled: Any = torch.compile(half, mode="max-autotune", dynamic=False)
    yield "torch fp16, compiled", lambda: compiled(images)


def tensorrt_rungs(case: Case, model: DeployedSegmenter, images: NDArray[np.uint8], repeats: int) -> Iterator[Any]:
    """(rung, stage times of `TensorRtEngine.measure`). Plans are built here: no parity with random weights."""
    from ros_ood_perception.inference.tensorrt.build import BuildRequest, build_plan, make_logger
    from ros_ood_perception.inference.tensorrt.cuda_driver import CudaDevice
    from ros_ood_perception.inference.tensorrt.engine import TensorRtEngine
    from ros_ood_perception.inference.tensorrt.plan import import_tensorrt

    trt = import_tensorrt()
    logger = make_logger(trt, lambda text: print(text, file=sys.stderr, flush=True))
    for precision, network in (("fp32", model), ("fp16", half_network(model))):
        request = BuildRequest(onnx_bytes(network, {"name": case.model}), precision, case.frame, case.batch)
        device = CudaDevice()
        built = build_plan(trt, logger, request, device.gpu.memory_bytes, lambda text: None)
        engine = TensorRtEngine(trt, logger, device, built.plan, model.input_size, case.frame, case.batch)
        for graph in (False, True):
            engine.use_graphs(graph)
            yield f"TensorRT {precision}{', CUDA graph' if graph else ''}", engine.measure(images, repeats)
        engine.close()


def ladder(case: Case, roofline: Roofline, device: str, repeats: int) -> tuple[list[Rung], list[str]]:
    """The rungs of one case, and why others are missing."""
    model = segmenter(case.model, case.frame)
    images = np.stack(fixed_frames(*case.frame, case.batch))
    flops, moved = work_of(model, case.batch)
    best = max(flops / roofline.flops, moved / roofline.bytes_per_s) * 1e3
    rungs, missing = [], []
    on_device = torch.from_numpy(images).to(device)
    with torch.inference_mode():
        for name, run in torch_rungs(model, on_device, device):
            try:
                times = _times(run, device, repeats)
            except RuntimeError as error:  # to compile needs Triton and a C compiler
                missing.append(f"{name}: {str(error).splitlines()[0]}")
                continue
            half = "fp16" in name
            share = best / _median(times) if half else None
            p99 = float(np.percentile(times, 99))
            rungs.append(Rung(name, _median(times), p99, None, None, best if half else None, share))
    try:
        for name, stages in tensorrt_rungs(case, model, images, repeats):
            compute = [stage.compute for stage in stages]
            half = "fp16" in name
            rungs.append(
                Rung(
                    name,
                    _median(compute),
                    float(np.percentile(compute, 99)),
                    _median([stage.to_device for stage in stages]),
                    _median([stage.to_host for stage in stages]),
                    best if half else None,
                    best / _median(compute) if half else None,
                )
            )
    except EngineError as error:
        missing.append(f"TensorRT: {error}")
    return rungs, missing


def engines_of(bundle: Bundle, largest: tuple[int, int], cache: Path) -> Iterator[tuple[str, InferenceEngine | str]]:
    """Every GPU engine and precision of a bundle, or why it is not to be had."""
    for name in ("TensorRT", "torch"):
        for precision in PRECISIONS:
            options = GpuOptions(precision, largest, 1, name == "TensorRT", cache, log=lambda text: None)  # type: ignore[arg-type]
            try:
                yield f"{name} {precision}", open_engine(bundle, name.lower(), gpu=options)
            except EngineError as error:
                yield f"{name} {precision}", str(error)


def on_cpu(bundle: Bundle, precision: str) -> InferenceEngine:
    """ONNX Runtime with the bundle's graphs of a precision, at each input size."""
    model_input = bundle.description.input
    engines = {}
    for one in map(bundle.at, model_input.sizes):
        engines[one.description.input.size] = OnnxRuntimeEngine(replace(one, model=graph_of_precision(one, precision)))
    return EngineOfSizes(model_input, engines)


def precisions(bundle: Bundle, data: DataArgument, cache: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Labels, scores and anomaly metrics of every engine and precision on one set."""
    frames = open_frames(data, ())
    reference = on_cpu(bundle, "fp32")
    in_float32 = Perception(reference, 1.0, len(bundle.description.classes), bundle.description.input)
    sizes = [frames[index].image.shape for index in range(len(frames))]
    largest = (max(s[0] for s in sizes), max(s[1] for s in sizes))
    rows, missing = [], []
    engines: list[tuple[str, InferenceEngine | str]] = [("ONNX Runtime fp32", on_cpu(bundle, "fp32"))]
    for variant in bundle.description.variants:
        # What rounding and quantisation alone cost, before a GPU's kernels add their own.
        engines.append((f"ONNX Runtime {variant.precision}", on_cpu(bundle, variant.precision)))
    engines += engines_of(bundle, largest, cache)
    for name, engine in engines:
        if isinstance(engine, str):
            missing.append(f"{name}: {engine}")
            continue
        meter, metrics = ParityMeter(), ExactPixelMetrics()
        perception = Perception(engine, 1.0, len(bundle.description.classes), bundle.description.input)
        for index in range(len(frames)):
            frame = frames[index]
            seen = perception(frame.image)
            found = EngineOutput(seen.engine_semantic[None], seen.engine_anomaly_score[None])
            wanted = in_float32(frame.image)
            meter.add(EngineOutput(wanted.engine_semantic[None], wanted.engine_anomaly_score[None]), found)
            if frames.has_anomalies:
                metrics.update(seen.anomaly_score, frame.anomaly)
        row: dict[str, Any] = {"engine": name, "data": data.name, **asdict(meter.parity())}
        if frames.has_anomalies:
            figures = metrics.compute()
            row |= {"AP": figures.ap, "FPR95": figures.fpr95}
        rows.append(row)
        engine.close()
    reference.close()
    return rows, missing


def _print_ladder(case: Case, rungs: list[Rung], console: Console) -> None:
    table = Table(title=f"{case.model}, {case.frame[0]}x{case.frame[1]}, batch {case.batch}", title_justify="left")
    for column in ("rung", "median ms", "p99 ms", "x compiled", "to device ms", "to host ms", "share of roofline"):
        table.add_column(column, justify="left" if column == "rung" else "right")
    compiled = next((r.median for r in rungs if r.rung.endswith("compiled")), None)
    for r in rungs:
        table.add_row(
            r.rung,
            f"{r.median:.3f}",
            f"{r.p99:.3f}",
            "" if compiled is None else f"{compiled / r.median:.2f}",
            *("" if value is None else f"{value:.3f}" for value in (r.to_device, r.to_host)),
            "" if r.share is None else f"{r.share:.0%}",
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", type=image_size, default=list(SIZES), metavar="HEIGHTxWIDTH")
    parser.add_argument("--batches", nargs="+", type=whole(1, 10**6), default=list(BATCHES))
    parser.add_argument("--repeats", type=whole(1, 10**6), default=REPEATS)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "camvid_small")
    parser.add_argument("--data", nargs="*", type=data_argument, default=[], metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.smoke:
        options.models, options.sizes, options.batches, options.repeats = ["small"], [(64, 128)], [1], 3
    elif device == "cpu" and options.models:
        print(
            "gpu: torch finds no GPU here; --smoke tries the script itself on the CPU, and an empty --models with "
            "--data compares the graphs of a bundle",
            file=sys.stderr,
        )
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=140)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU: these times mean nothing"
    roofline = measured_roofline(device)
    console.print(f"{name}: {roofline.flops / 1e12:.2f} TFLOP/s, {roofline.bytes_per_s / 1e9:.0f} GB/s, measured")
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "roofline": asdict(roofline), "ladder": []}
    for case in (Case(m, s, b) for m in options.models for s in options.sizes for b in options.batches):
        rungs, missing = ladder(case, roofline, device, options.repeats)
        _print_ladder(case, rungs, console)
        for line in missing:
            console.print(f"missing: {line}")
        results["ladder"].append({**asdict(case), "rungs": [asdict(r) for r in rungs], "missing": missing})
    results["precisions"], results["not_measured"] = [], []
    if options.data:
        bundle = read_bundle(options.bundle)
        table = Table(title=f"{bundle.description.name} by precision", title_justify="left")
        for column in ("engine", "data", "labels as ONNX Runtime", "mean score difference", "AP", "FPR95"):
            table.add_column(column)
        with tempfile.TemporaryDirectory() as cache:
            for data in options.data:
                rows, missing = precisions(bundle, data, Path(cache))
                results["precisions"] += rows
                results["not_measured"] += [f"{data.name}, {line}" for line in missing]
                for row in rows:
                    figures = [f"{row[k]:.4f}" if k in row else "" for k in ("AP", "FPR95")]
                    agreement, difference = f"{row['label_agreement']:.3%}", f"{row['mean_score_difference']:.1e}"
                    table.add_row(row["engine"], row["data"], agreement, difference, *figures)
        console.print(table)
        for line in results["not_measured"]:
            console.print(f"not measured: {line}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, results, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
