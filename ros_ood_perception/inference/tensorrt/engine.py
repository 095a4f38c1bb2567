"""Runs a TensorRT plan, with pinned buffers, a stream of its own and a CUDA graph.

Needs the NVIDIA driver and TensorRT's Python package (8.6, 10 or 11), but neither torch nor CUDA bindings.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS
from ros_ood_perception.inference.engine import EngineError, EngineOutput, ImageSizeError
from ros_ood_perception.inference.tensorrt.cuda_driver import CudaDevice

SCORES = ("anomaly", ANOMALY_AT_LOGITS)
"""Names of the score output; a plan has one of them."""


@dataclass(frozen=True)
class StageTimes:
    """Stages of one inference on the GPU's clock, milliseconds."""

    to_device: float
    compute: float
    to_host: float


class TensorRtEngine:
    """Runs a plan that was made for a bundle.

    Args:
        trt: the module `tensorrt`.
        logger: of `build.make_logger`.
        device: open. The engine closes it.
        plan: built on this machine and verified by its digest: a plan can hold code.
        input_size: height and width of the outputs, from the bundle's description.
        image_size, batch: what the plan was built for.

    Raises:
        EngineError: TensorRT cannot read the plan, it is not a bundle's, or there is not enough memory.
    """

    name = "tensorrt"

    def __init__(
        self,
        trt: Any,
        logger: Any,
        device: CudaDevice,
        plan: bytes,
        input_size: tuple[int, int],
        image_size: tuple[int, int],
        batch: int,
    ) -> None:
        self._device = device
        self._input_size, self._image_size, self._batch = input_size, image_size, batch
        self._logger = logger
        self._shape: tuple[int, ...] = ()
        self._warm = False
        self._graph = 0
        self._captures = True
        self._closed = False
        device.make_current()
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"TensorRT {trt.__version__} cannot read the plan: {_last_error(logger)}")
        self._dynamic, self._score = self._checked(trt)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"no memory on the GPU for an inference: {_last_error(logger)}")
        # Allocated once, for the largest frames and batch: only addresses that never change can be recorded in a graph.
        height, width = image_size
        small = 1 if self._score == "anomaly" else self._upsampling()
        self._score_size = (input_size[0] // small, input_size[1] // small)
        self._pinned = {
            "image": device.pinned_memory(batch * height * width * 3),
            "semantic": device.pinned_memory(batch * input_size[0] * input_size[1]),
            self._score: device.pinned_memory(batch * self._score_size[0] * self._score_size[1] * 4),
        }
        self._memory = {name: device.device_memory(buffer.nbytes) for name, buffer in self._pinned.items()}
        for name, address in self._memory.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take the memory for '{name}': {_last_error(logger)}")

    def _checked(self, trt: Any) -> tuple[bool, str]:
        """Whether the plan takes smaller frames, and the name of its score output."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        scores = [name for name in SCORES if name in names]
        if inputs != {"image"} or set(names) != {"image", "semantic", *scores} or len(scores) != 1:
            raise EngineError(f"the plan has the inputs and outputs {names}; it was not built from a bundle")
        wanted = {"image": trt.uint8, "semantic": trt.uint8, scores[0]: trt.float32}
        types = {name: engine.get_tensor_dtype(name) for name in names}
        if types != wanted:
            raise EngineError(f"the plan's types are {types}; a bundle's are {wanted}")
        shape = tuple(engine.get_tensor_shape("image"))
        if -1 not in shape and shape != (self._batch, *self._image_size, 3):
            raise EngineError(f"the plan takes {shape}; it should take {(self._batch, *self._image_size, 3)}")
        return -1 in shape, scores[0]

    def _upsampling(self) -> int:
        height = tuple(self._engine.get_tensor_shape(self._score))[-2]
        if height < 1 or self._input_size[0] % height:
            raise EngineError(f"the plan's score has {height} rows; the bundle's outputs have {self._input_size[0]}")
        return self._input_size[0] // height

    @property
    def uses_graph(self) -> bool:
        """Whether the last inference launched a recorded graph."""
        return self._graph != 0

    def use_graphs(self, use: bool) -> None:
        """Choose whether inferences are recorded as a graph (the default), or kernels are launched one by one."""
        if self._graph:
            self._device.make_current()
            self._device.destroy_graph(self._graph)
            self._graph = 0
        self._captures = use

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`. More images than the plan's batch are run batch by batch."""
        self._check_images(images)
        self._device.make_current()
        count = len(images)
        semantic = np.empty((count, *self._input_size), np.uint8)
        score = np.empty((count, *self._input_size), np.float32)
        for start in range(0, count, self._batch):
            chunk = images[start : start + self._batch]
            self._fill(chunk)
            self._device.copy_to_device(self._memory["image"], self._used("image"))
            self._infer()
            for name in ("semantic", self._score):
                self._device.copy_to_host(self._used(name), self._memory[name])
            self._device.synchronise()
            self._take(semantic[start : start + len(chunk)], score[start : start + len(chunk)])
        return EngineOutput(semantic, score)

    def measure(self, images: NDArray[np.uint8], repeats: int) -> list[StageTimes]:
        """Measure `repeats` inferences of one batch, after two that are not counted."""
        self._check_images(images)
        self._device.make_current()
        marks = [self._device.event() for _ in range(4)]
        times = []
        for repeat in range(repeats + 2):
            self._fill(images[: self._batch])
            self._device.record(marks[0])
            self._device.copy_to_device(self._memory["image"], self._used("image"))
            self._device.record(marks[1])
            self._infer()
            self._device.record(marks[2])
            for name in ("semantic", self._score):
                self._device.copy_to_host(self._used(name), self._memory[name])
            self._device.record(marks[3])
            self._device.synchronise()
            if repeat >= 2:
                stages = itertools.pairwise(marks)
                times.append(StageTimes(*(self._device.milliseconds_between(a, b) for a, b in stages)))
        return times

    def _check_images(self, images: NDArray[np.uint8]) -> None:
        height, width = self._image_size
        fits = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] == 3 and min(images.shape) > 0
        if fits and self._dynamic:
            fits = images.shape[1] <= height and images.shape[2] <= width
        elif fits:
            fits = images.shape[1:3] == (height, width)
        if not fits:
            smaller = " or smaller" if self._dynamic else ""
            raise ImageSizeError(
                f"the TensorRT plan takes images (N, {height}, {width}, 3) uint8{smaller}; these are {images.shape} "
                f"{images.dtype}. Build one for them (build_engine --size HEIGHTxWIDTH), and open the engine for it"
            )

    def _fill(self, chunk: NDArray[np.uint8]) -> None:
        # A plan of fixed shape runs its whole batch. The results of unused places are dropped.
        shape = chunk.shape if self._dynamic else (self._batch, *self._image_size, 3)
        if shape != self._shape:
            if self._graph:
                self._device.destroy_graph(self._graph)
                self._graph = 0
            if not self._context.set_input_shape("image", shape):
                raise EngineError(f"TensorRT does not take images {shape}: {_last_error(self._logger)}")
            self._shape, self._warm = shape, False
        self._used("image").reshape(shape)[: len(chunk)] = chunk

    def _used(self, name: str) -> NDArray[np.uint8]:
        """The part of a pinned buffer that the current shape fills."""
        sizes = {"image": self._shape[1] * self._shape[2] * 3, "semantic": self._input_size[0] * self._input_size[1]}
        size = sizes.get(name, self._score_size[0] * self._score_size[1] * 4)
        return self._pinned[name][: self._shape[0] * size]

    def _infer(self) -> None:
        if self._warm and self._captures and not self._graph:
            self._graph = self._captured()
        if self._graph:
            self._device.launch(self._graph)
            return
        # The first run of a shape may do setup that cannot be recorded.
        self._enqueue()
        self._warm = True

    def _captured(self) -> int:
        self._device.begin_capture()
        failed = ""
        try:
            self._enqueue()
        except EngineError as error:
            failed = str(error)
        try:
            graph = self._device.end_capture()
        except EngineError:
            # Some kernels cannot be recorded; then they are launched one by one.
            self._captures = False
            return 0
        if failed:
            self._device.destroy_graph(graph)
            raise EngineError(failed)
        return graph

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._device.stream):
            raise EngineError(f"TensorRT failed on images {self._shape}: {_last_error(self._logger)}")

    def _take(self, semantic: NDArray[np.uint8], score: NDArray[np.float32]) -> None:
        count, (height, width) = len(semantic), self._input_size
        semantic[:] = self._used("semantic").reshape(-1, height, width)[:count]
        found = self._used(self._score).view(np.float32).reshape(-1, *self._score_size)
        for index in range(count):
            if self._score_size == self._input_size:
                score[index] = found[index]
            else:
                # As in the graph: bilinear, half-pixel centres, a constant factor.
                cv2.resize(found[index], (width, height), dst=score[index], interpolation=cv2.INTER_LINEAR)

    def close(self) -> None:
        """Free the graph, the plan and all memory.

        Raises:
            EngineError: a call of the driver failed. The rest is freed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._device.make_current()
            self._device.synchronise()
            if self._graph:
                self._device.destroy_graph(self._graph)
        finally:
            # In this order: TensorRT's objects must be destroyed before those that made them.
            del self._context, self._engine, self._runtime
            self._device.close()


def _last_error(logger: Any) -> str:
    errors = getattr(logger, "errors", [])
    return errors[-1] if errors else "it says no more"
