"""Opens an engine on a bundle. Each engine is imported only when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ros_ood_perception.bundle.model_bundle import Bundle, BundleError
from ros_ood_perception.inference.engine import EngineError, GpuOptions, InferenceEngine
from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.inference.engine_of_sizes import EngineOfSizes

OPENING_S = 120.0
"""Default deadline for opening an engine, seconds."""
OPENING_WITH_BUILD_S = 3600.0
"""Default deadline where opening includes building a TensorRT plan or compiling torch's kernels, seconds."""


def open_engine(bundle: Bundle, name: str, num_threads: int = 0, gpu: GpuOptions | None = None) -> InferenceEngine:
    """Open an engine on a verified bundle, at each of its input sizes.

    One line in `gpu.log` names the engine and, for `auto`, says why it is not a faster one.

    Args:
        name: one of `ENGINES`. `auto` takes the first that works here: TensorRT, torch on a GPU, ONNX Runtime on the
            CPU.
        num_threads: of the CPU engine; 0: every CPU that this process may use.
        gpu: options of engines on a GPU.

    Raises:
        EngineError: no such engine, or it cannot run the bundle here.
    """
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown; there are {', '.join(ENGINES)}")
    options = gpu or GpuOptions()
    if name == "onnxruntime":
        return _open_on_cpu(bundle, num_threads)
    if name != "auto":
        engine, details = _open_on_gpu(bundle, name, options)
        options.log(f"engine: {details}")
        return engine
    passed_over = []
    from ros_ood_perception.inference.tensorrt.cuda_driver import find_gpu

    try:
        # Before anything else: creating a TensorRT object on a machine without a GPU can end the process.
        find_gpu()
    except EngineError as error:
        passed_over.append(str(error))
    else:
        for candidate in ("tensorrt", "torch"):
            try:
                engine, details = _open_on_gpu(bundle, candidate, options)
            except EngineError as error:
                passed_over.append(f"{candidate}: {error}")
                continue
            options.log("; ".join([f"engine (auto): {details}", *passed_over]))
            return engine
    options.log("; ".join(["engine (auto): onnxruntime on the CPU", *passed_over]))
    return _open_on_cpu(bundle, num_threads)


def _open_on_cpu(bundle: Bundle, num_threads: int) -> InferenceEngine:
    from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine

    sizes = bundle.description.input.sizes
    engine, _ = _open_sizes(bundle, sizes, lambda one: (OnnxRuntimeEngine(one, num_threads), ""))
    return engine


def _open_on_gpu(bundle: Bundle, name: str, options: GpuOptions) -> tuple[InferenceEngine, str]:
    try:
        if name == "tensorrt":
            from ros_ood_perception.inference.tensorrt.plan import open_tensorrt, sizes_of_plans

            sizes = sizes_of_plans(bundle, options)
            return _open_sizes(bundle, sizes, lambda one: open_tensorrt(one, options))
        from ros_ood_perception.inference.torch.engine import open_torch

        return _open_sizes(bundle, bundle.description.input.sizes, lambda one: open_torch(one, options))
    except BundleError as error:
        # A file of the bundle was changed after the bundle was read.
        raise EngineError(str(error)) from error


def _open_sizes(
    bundle: Bundle,
    sizes: Sequence[tuple[int, int]],
    open_one: Callable[[Bundle], tuple[InferenceEngine, str]],
) -> tuple[InferenceEngine, str]:
    """The engine of these sizes and the line that describes it. After an error none stays open."""
    with ExitStack() as undo:
        engines, details = {}, []
        for size in sizes:
            engines[size], line = open_one(bundle.at(size))
            undo.callback(engines[size].close)
            details.append(line if len(sizes) == 1 else f"{size[0]}x{size[1]}: {line}")
        undo.pop_all()
    if len(sizes) == 1:
        return engines[sizes[0]], details[0]
    return EngineOfSizes(bundle.description.input, engines), "; ".join(details)
