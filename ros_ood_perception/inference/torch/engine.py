"""PyTorch on a GPU, for machines without TensorRT: runs the bundle's ONNX graph by calls of torch.

Needs torch with CUDA, but no training code. No program of torch is read from a bundle, because it could hold code.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames, measure_parity, require_parity
from ros_ood_perception.inference.precision_graph import graph_of_precision
from ros_ood_perception.inference.tensorrt.cuda_driver import find_gpu

RUNS_BEFORE_GRAPH = 2
"""Runs of a shape before its graph is recorded; in these torch chooses kernels and allocates memory."""


class TorchEngine:
    """A bundle's graph on a device: weights channels-last, one CUDA graph for the shape in use.

    Args:
        device: "cuda"; or, for tests, "cpu", which runs the same without graph and pinned memory.
        compiled: use `torch.compile`, which needs Triton and takes minutes at the first run, instead of a CUDA graph.

    Raises:
        EngineError: the bundle has no such graph, or torch cannot run it.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, precision: str, device: str = "cuda", compiled: bool = False) -> None:
        contents = _graph(bundle, precision)
        # Imported here: it takes seconds.
        import torch

        from ros_ood_perception.inference.torch.graph import TorchGraph

        self._torch = torch
        self._device = device
        self._size = bundle.description.input.size
        if device == "cuda":
            # TensorFloat-32 has 10 bits of mantissa. This setting is of the whole process.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        try:
            self._graph_of_bundle: Any = TorchGraph(contents, device)
        except OnnxFileError as error:
            raise EngineError(f"torch cannot run the model of {bundle.folder}: {error}") from error
        self._compiled = compiled
        self._module: Any = None
        self._graph: Any = None
        self._shape: tuple[int, ...] = ()
        self._runs_of_shape = 0
        self._input: Any = None
        self._pinned_input: Any = None
        self._output: tuple[Any, Any] | None = None
        self._pinned_output: tuple[Any, Any] | None = None

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`."""
        torch = self._torch
        try:
            with torch.inference_mode():
                if images.shape != self._shape:
                    self._prepare(images.shape)
                self._pinned_input.numpy()[:] = images
                self._input.copy_(self._pinned_input, non_blocking=True)
                self._infer()
                assert self._output is not None
                if self._device == "cpu":
                    semantic, anomaly = self._output
                    return EngineOutput(semantic.numpy(), anomaly.numpy())
                if self._pinned_output is None:
                    self._pinned_output = tuple(
                        torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in self._output
                    )  # type: ignore[assignment]
                assert self._pinned_output is not None
                for host, device in zip(self._pinned_output, self._output, strict=True):
                    host.copy_(device, non_blocking=True)
                torch.cuda.current_stream().synchronize()
                semantic, anomaly = self._pinned_output
                return EngineOutput(semantic.numpy().copy(), anomaly.numpy().copy())
        except (RuntimeError, ValueError, AssertionError) as error:
            raise EngineError(f"torch failed on images {images.shape} {images.dtype}: {error}") from error

    def _prepare(self, shape: tuple[int, ...]) -> None:
        torch = self._torch
        on_gpu = self._device == "cuda"
        if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
            raise ValueError("they must be (N, H, W, 3), none of them 0")
        # So that nothing of the last shape is used if this one fails.
        self._shape = ()
        module = self._graph_of_bundle.for_frames(*shape[:3])
        self._module = torch.compile(module, mode="max-autotune", dynamic=False) if self._compiled else module
        self._pinned_input = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu)
        self._input = torch.empty(shape, dtype=torch.uint8, device=self._device)
        self._shape, self._runs_of_shape, self._graph, self._pinned_output = shape, 0, None, None

    def _infer(self) -> None:
        torch = self._torch
        # torch.compile records graphs itself.
        records = self._device == "cuda" and not self._compiled and self._runs_of_shape >= RUNS_BEFORE_GRAPH
        if records and self._graph is None:
            torch.cuda.current_stream().synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output = self._module(self._input)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._output = self._module(self._input)
            self._runs_of_shape += 1

    def measure(self, images: NDArray[np.uint8], repeats: int) -> list[float]:
        """Milliseconds of `repeats` inferences on the GPU's clock, without transfers."""
        torch = self._torch
        for _ in range(5):
            self.run(images)
        times = []
        with torch.inference_mode():
            for _ in range(repeats):
                first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                self._infer()
                second.record()
                second.synchronize()
                times.append(float(first.elapsed_time(second)))
        return times

    def close(self) -> None:
        """Free graph, weights and buffers."""
        self._graph = self._output = self._pinned_output = self._input = self._pinned_input = None
        self._module = self._graph_of_bundle = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()


def _graph(bundle: Bundle, precision: str) -> bytes:
    if precision == "int8":
        raise EngineError(
            "the torch engine computes in fp32 or fp16, not in int8; take the precision fp16, or TensorRT"
        )
    return graph_of_precision(bundle, precision)


def open_torch(bundle: Bundle, options: GpuOptions) -> tuple[TorchEngine, str]:
    """Returns an engine whose parity was checked, and one line that describes it.

    Raises:
        EngineError: no GPU, no torch with CUDA, no graph of the precision in the bundle, or torch does not compute what
            ONNX Runtime computes.
    """
    gpu = find_gpu()
    _graph(bundle, options.precision)
    if importlib.util.find_spec("torch") is None:
        raise EngineError("torch is not installed: `pip install torch`")
    import torch

    if not torch.cuda.is_available():
        raise EngineError(f"this torch ({torch.__version__}) finds no CUDA; install a build of it with CUDA")
    engine = TorchEngine(bundle, options.precision, compiled=options.build)
    reference = OnnxRuntimeEngine(bundle)
    try:
        frames = fixed_frames(*options.for_input(bundle.description.input).image_size)
        for _ in range(RUNS_BEFORE_GRAPH):
            # Not measured: the frames of a camera run on the graph.
            engine.run(frames[0][None])
        parity = measure_parity(reference, engine, frames)
        require_parity(parity, options.precision, f"the torch engine ({options.precision})")
    except EngineError:
        engine.close()
        raise
    finally:
        reference.close()
    how = "compiled" if options.build else "CUDA graph"
    return engine, f"torch {torch.__version__} {options.precision} on {gpu}, {how}; {parity}"
