"""Builds a TensorRT plan of an ONNX graph, with TensorRT 8.6, 10 or 11.

In 10 and 11 the network is strongly typed: each layer computes in the type that it has in the graph. 8.6 has no
strongly typed networks. There the builder may choose FP16 where its flag is set, and every layer that is float32 in the
graph is pinned to float32. Q/DQ nodes mean the same in all versions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS
from ros_ood_perception.inference.engine import EngineError

FLAGS_VERSION = "1"
"""Part of every plan's key. Raise it when a change here makes other plans of the same graph."""

PROGRESS_PERIOD_S = 5.0
LARGEST_WORKSPACE_BYTES = 4 << 30


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        model: an ONNX file of a bundle.
        precision: fp32, fp16 or int8: that of `model`.
        image_size, batch: the largest that the plan takes. With 8.6 the only ones.
        timings: kernel timings of earlier builds, or empty.
    """

    model: bytes
    precision: str
    image_size: tuple[int, int]
    batch: int
    timings: bytes = b""


@dataclass(frozen=True)
class BuiltPlan:
    """A plan, the kernel timings that were measured for it, and how long it took to build."""

    plan: bytes
    timings: bytes
    seconds: float


def major_version(trt: Any) -> int:
    """8, 10 or 11."""
    return int(trt.__version__.split(".")[0])


def is_dynamic(trt: Any) -> bool:
    """Whether plans of this version take smaller frames and batches too. 8.6 reads some dynamic shapes wrongly."""
    return major_version(trt) >= 10


def builder_flags(trt: Any, precision: str) -> tuple[str, ...]:
    """What `build_plan` sets besides shapes and precision, for the plan's key."""
    typing = "strongly_typed" if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") else "weakly_typed"
    return (FLAGS_VERSION, typing, "dynamic" if is_dynamic(trt) else "static", "tf32" if precision == "int8" else "")


def make_logger(trt: Any, log: Callable[[str], None]) -> Any:
    """A logger of TensorRT that writes warnings and errors to `log` and keeps the last errors in `errors`."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors = [*self.errors[-4:], text]
                log(f"TensorRT error: {text}")
            elif severity == trt.ILogger.WARNING:
                log(f"TensorRT: {text}")

    return Logger()


def build_plan(
    trt: Any, logger: Any, request: BuildRequest, memory_bytes: int, log: Callable[[str], None]
) -> BuiltPlan:
    """Build a plan. Takes minutes; the log shows the progress.

    Args:
        trt: the module `tensorrt`.
        logger: of `make_logger`.
        memory_bytes: of the GPU. A quarter of it, at most `LARGEST_WORKSPACE_BYTES`, is the workspace of kernels.

    Raises:
        EngineError: TensorRT cannot read the graph, or cannot build it here.
    """
    started = time.monotonic()
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.model):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"TensorRT {trt.__version__} cannot read the model: {'; '.join(errors)}")
    _output_small_score(network)
    config = builder.create_builder_config()
    workspace = min(memory_bytes // 4, LARGEST_WORKSPACE_BYTES)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if request.precision != "int8":
        # TF32 is on by default and has 10 bits of mantissa where float32 was asked for.
        config.clear_flag(trt.BuilderFlag.TF32)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        _set_precision_by_flags(trt, network, config, request.precision)
    if major_version(trt) < 10:
        # Other tactic sources load cuBLAS and cuDNN, hundreds of megabytes that are not needed.
        sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
    _set_shapes(trt, builder, network, config, request)
    cache = config.create_timing_cache(request.timings)
    config.set_timing_cache(cache, False)
    if hasattr(trt, "IProgressMonitor"):
        monitor = _progress_monitor(trt, log)
        config.progress_monitor = monitor
    log(
        f"building a TensorRT {trt.__version__} plan, {request.precision}, {request.batch} x "
        f"{request.image_size[0]}x{request.image_size[1]}: this takes minutes"
    )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        errors = getattr(logger, "errors", [])
        raise EngineError(
            f"TensorRT {trt.__version__} cannot build the model: {'; '.join(errors) or 'it says no more'}"
        )
    timings = bytes(config.get_timing_cache().serialize())
    return BuiltPlan(bytes(plan), timings, time.monotonic() - started)


def _network_flags(trt: Any) -> int:
    flags = 0
    for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED"):
        # EXPLICIT_BATCH has no effect from 10 on and is gone in 11. STRONGLY_TYPED came with 9.
        if hasattr(trt.NetworkDefinitionCreationFlag, name):
            flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    return flags


def _output_small_score(network: Any) -> None:
    """Output the score before it is up-sampled, where the graph names that tensor: a sixteenth of the bytes to copy.

    Up-sampling on the host takes no longer than the copy into its own memory that the host has to make anyway.
    """
    outputs = {tensor.name: tensor for tensor in (network.get_output(i) for i in range(network.num_outputs))}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            if tensor.name == ANOMALY_AT_LOGITS:
                network.mark_output(tensor)
                network.unmark_output(outputs["anomaly"])
                return


def _set_precision_by_flags(trt: Any, network: Any, config: Any, precision: str) -> None:
    if precision == "fp32":
        return
    config.set_flag(getattr(trt.BuilderFlag, precision.upper()))
    if precision == "int8":
        return  # Q/DQ nodes choose the layers; the rest stays float32.
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    # A cast has its own output type.
    untyped = (trt.LayerType.CONSTANT, trt.LayerType.SHAPE, trt.LayerType.CAST)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        if layer.type in untyped or any(tensor.is_shape_tensor or tensor.dtype != trt.float32 for tensor in outputs):
            continue
        layer.precision = trt.float32
        for number in range(layer.num_outputs):
            layer.set_output_type(number, trt.float32)


def _set_shapes(trt: Any, builder: Any, network: Any, config: Any, request: BuildRequest) -> None:
    largest = (request.batch, *request.image_size, 3)
    if not is_dynamic(trt):
        network.get_input(0).shape = largest
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, (1, 1, 1, 3), largest, largest)
    config.add_optimization_profile(profile)


def _progress_monitor(trt: Any, log: Callable[[str], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._logged_at = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            now = time.monotonic()
            if now - self._logged_at >= PROGRESS_PERIOD_S:
                self._logged_at = now
                log(f"TensorRT: {phase_name}, {step + 1} of {self._steps.get(phase_name, 0)}")
            return True  # go on

    return Monitor()
