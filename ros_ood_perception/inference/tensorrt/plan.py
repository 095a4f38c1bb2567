"""Opens a bundle in TensorRT: finds or builds its plan for this machine, and checks the engine's parity."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from typing import Any

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError, GpuOptions
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, fixed_frames, measure_parity, require_parity
from ros_ood_perception.inference.precision_graph import graph_of_precision
from ros_ood_perception.inference.tensorrt.build import (
    BuildRequest,
    build_plan,
    builder_flags,
    is_dynamic,
    major_version,
    make_logger,
)
from ros_ood_perception.inference.tensorrt.cuda_driver import CudaDevice, Gpu, find_gpu
from ros_ood_perception.inference.tensorrt.engine import TensorRtEngine
from ros_ood_perception.inference.tensorrt.plan_cache import PlanCache, PlanKey, PlanRejected, default_folder

OLDEST_TENSORRT = (8, 6)


def sizes_of_plans(
    bundle: Bundle, options: GpuOptions, find: Callable[[], Gpu] = find_gpu
) -> tuple[tuple[int, int], ...]:
    """The input sizes of a bundle for which plans are needed, one each.

    With TensorRT 8.6 all stretched frames have one size, and so one input size.

    Raises:
        EngineError: no driver, no GPU, or no TensorRT.
    """
    model_input = bundle.description.input
    if len(model_input.sizes) == 1 or model_input.fit == "letterbox":
        return model_input.sizes
    find()  # before TensorRT is imported
    if is_dynamic(import_tensorrt()):
        return model_input.sizes
    return (model_input.size_for(options.image_size),)


def open_tensorrt(
    bundle: Bundle,
    options: GpuOptions,
    find: Callable[[], Gpu] = find_gpu,
    device: Callable[[], CudaDevice] = CudaDevice,
) -> tuple[TensorRtEngine, str]:
    """Returns an engine of the bundle's first input size (`Bundle.at`), and one line that describes it.

    The plan comes from the cache. With `options.build` it is built where there is none that can be trusted.

    Args:
        find: finds the GPU.
        device: opens the GPU.

    Raises:
        EngineError: no driver, no GPU, no TensorRT; the bundle lacks the precision; there is no plan and it is not to
            be built; or the plan does not compute what the bundle's graph computes.
    """
    options = options.for_input(bundle.description.input)
    found_gpu = find()  # before TensorRT is imported
    model = graph_of_precision(bundle, options.precision)
    trt = import_tensorrt()
    logger = make_logger(trt, options.log)  # one for all: TensorRT keeps the first one of a process
    key = plan_key(trt, found_gpu, model, options)
    cache = PlanCache(options.cache or default_folder())
    try:
        plan = cache.read(key)
    except PlanRejected as rejected:
        if not options.build:
            raise EngineError(
                f"no TensorRT plan for this bundle, {found_gpu}, TensorRT {trt.__version__}, {options.precision}, "
                f"{options.batch} x {options.image_size[0]}x{options.image_size[1]} ({rejected}). Build it: "
                f"{build_command(bundle, options)}"
            ) from rejected
        options.log(f"TensorRT plan is built: {rejected}")
    else:
        opened = _engine(trt, logger, device, plan.plan, bundle, options)
        parity = _checked(opened, bundle, options)
        return opened, _details(trt, found_gpu, options, parity, "plan from the cache")
    with cache.lock(key, options.log):
        try:
            # Another process may have built it while this one waited.
            built_elsewhere = cache.read(key)
        except PlanRejected:
            pass
        else:
            opened = _engine(trt, logger, device, built_elsewhere.plan, bundle, options)
            parity = _checked(opened, bundle, options)
            return opened, _details(trt, found_gpu, options, parity, "plan from the cache")
        request = BuildRequest(model, options.precision, options.image_size, options.batch, cache.timings(key))
        built = build_plan(trt, logger, request, found_gpu.memory_bytes, options.log)
        cache.store_timings(key, built.timings)
        opened = _engine(trt, logger, device, built.plan, bundle, options)
        parity = _checked(opened, bundle, options)
        try:
            cache.store(key, built.plan, built.seconds, parity)
        except EngineError:
            opened.close()
            raise
    return opened, _details(trt, found_gpu, options, parity, f"plan built in {built.seconds:.0f} s")


def plan_key(trt: Any, gpu: Gpu, model: bytes, options: GpuOptions) -> PlanKey:
    """The key of a plan for these options."""
    return PlanKey(
        model_sha256=hashlib.sha256(model).hexdigest(),
        tensorrt_version=trt.__version__,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        precision=options.precision,
        image_size=options.image_size,
        batch=options.batch,
        flags=builder_flags(trt, options.precision),
    )


def build_command(bundle: Bundle, options: GpuOptions) -> str:
    """The command that builds a plan for these options."""
    command = ["ros2", "run", "ros_ood_perception", "build_engine", str(bundle.folder)]
    command += ["--precision", options.precision, "--size", f"{options.image_size[0]}x{options.image_size[1]}"]
    command += ["--batch", str(options.batch)]
    if options.cache is not None:
        command += ["--cache", str(options.cache)]
    return shlex.join(command)


def import_tensorrt() -> Any:
    """Import `tensorrt` in a version that is supported. Call `find_gpu` first.

    Raises:
        EngineError: not installed, or another version.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise EngineError(
            f"TensorRT's Python package cannot be imported ({error}): on a Jetson `sudo apt install "
            "python3-libnvinfer`, elsewhere `pip install tensorrt`"
        ) from error
    version = tuple(int(part) for part in tensorrt.__version__.split(".")[:2])
    if version < OLDEST_TENSORRT:
        raise EngineError(f"TensorRT is {tensorrt.__version__}; 8.6, 10 and 11 are supported")
    if major_version(tensorrt) == 9:
        raise EngineError(f"TensorRT is {tensorrt.__version__}, a release for data centres; take 10 or 11")
    return tensorrt


def _engine(
    trt: Any, logger: Any, device: Callable[[], CudaDevice], plan: bytes, bundle: Bundle, options: GpuOptions
) -> TensorRtEngine:
    opened = device()
    size = bundle.description.input.size
    try:
        return TensorRtEngine(trt, logger, opened, plan, size, options.image_size, options.batch)
    except EngineError:
        opened.close()
        raise


def _checked(opened: TensorRtEngine, bundle: Bundle, options: GpuOptions) -> Parity:
    """The parity of an opened engine. An engine beyond the limits is closed."""
    reference = OnnxRuntimeEngine(bundle)
    try:
        parity = measure_parity(reference, opened, fixed_frames(*options.image_size))
        require_parity(parity, options.precision, f"the TensorRT plan ({options.precision})")
    except EngineError:
        opened.close()
        raise
    finally:
        reference.close()
    return parity


def _details(trt: Any, gpu: Gpu, options: GpuOptions, parity: Parity, origin: str) -> str:
    return (
        f"TensorRT {trt.__version__} {options.precision} on {gpu}, up to {options.batch} x {options.image_size[0]}x"
        f"{options.image_size[1]}, {origin}; {parity}"
    )
