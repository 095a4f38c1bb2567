"""Runs engines ahead of the frame that is processed: in a thread of this process, or in several processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle, BundleDescription, read_bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions, InferenceEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import letterbox_of
from ros_ood_perception.parent_process import end_with_parent

_own: InferenceEngine | None = None
"""The engine of a worker process."""


class EnginePool:
    """Gives frames to its engines in turn.

    Args:
        bundle: verified.
        engine_name: one of `ENGINES`. `auto` is resolved once, so that all processes run the same engine.
        jobs: number of processes; 1: only this one.
        num_threads: CPU threads of each engine; 0: every CPU that this process may use. It does not depend on `jobs`,
            because the last bits of an engine's result can depend on it.
        gpu: options of engines on a GPU.

    Attributes:
        name: name of the engine.
        num_threads: CPU threads of each engine.
        look_ahead: largest number of frames that may be submitted ahead.
        largest_size: height and width of the largest frame, pixels; None: no limit.

    Raises:
        EngineError: no engine can be opened, or not in that many processes.
    """

    def __init__(self, bundle: Bundle, engine_name: str, jobs: int, num_threads: int, gpu: GpuOptions) -> None:
        threads = num_threads or len(os.sched_getaffinity(0))
        self.num_threads = threads
        self.look_ahead = 2 * jobs
        self._engine: InferenceEngine | None = None
        # One executor for each process, so that each process can open its engine, and report why it could not.
        self._executors: list[ThreadPoolExecutor] | list[ProcessPoolExecutor]
        if jobs == 1:
            self._engine = engine = open_engine(bundle, engine_name, threads, gpu)
            self.name = engine.name
            self._executors = [ThreadPoolExecutor(1, "engine")]
            self._run: Callable[[NDArray[np.uint8]], EngineOutput] = lambda image: engine.run(image[None])
        else:
            # Not forked: an engine's threads and a GPU's driver do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._executors = [ProcessPoolExecutor(1, context, _begin_worker) for _ in range(jobs)]
            self._run = _run_in_worker
        self._next = itertools.cycle(self._executors)
        self._model_input = bundle.description.input
        gpu = gpu.for_input(self._model_input)
        try:
            if jobs > 1:
                self.name = self._open_in_all(bundle, engine_name, gpu)
            # TensorRT 8.6 takes frames of one size only.
            on_cpu = self.name == "onnxruntime"
            letterbox = self._model_input.fit == "letterbox"
            self.largest_size = None if on_cpu or letterbox else gpu.image_size
            size = self._model_input.size if on_cpu else gpu.image_size
            self.result(self.submit(np.zeros((*size, 3), np.uint8)))
        except BaseException:
            self.close()
            raise

    def _open_in_all(self, bundle: Bundle, engine_name: str, gpu: GpuOptions) -> str:
        """Open the engine in every process. Returns its name."""
        folder, description, threads = bundle.folder, bundle.description, self.num_threads
        first, *others = self._executors
        # In one process first. If each process resolved `auto`, one might skip a GPU whose memory the others have
        # taken, and the frames of one replay would run on different engines.
        try:
            name = first.submit(_open_in_worker, folder, description, engine_name, threads, gpu).result()
        except BrokenExecutor as error:
            raise EngineError(f"the process that opened the engine '{engine_name}' died ({error})") from error
        try:
            opened = [other.submit(_open_in_worker, folder, description, name, threads, gpu) for other in others]
            for future in opened:
                future.result()
        except (EngineError, BrokenExecutor) as error:
            jobs = len(self._executors)
            raise EngineError(
                f"the engine '{name}' opens in one process and not in {jobs} at a time ({error}); give fewer --jobs"
            ) from error
        return name

    def submit(self, image: NDArray[np.uint8]) -> Future[EngineOutput]:
        """Start inference on a frame (H, W, 3) uint8 in the bundle's colour order."""
        # In turn: all frames take the same time, and results are wanted in order.
        # Letterboxed here, so that a process gets the smaller image.
        box = letterbox_of(image, self._model_input)
        return next(self._next).submit(self._run, image if box is None else box.fill(image))

    def result(self, future: Future[EngineOutput]) -> EngineOutput:
        """Wait for a frame's result.

        Raises:
            EngineError: the engine failed on the frame, or cannot be opened.
            BrokenExecutor: a process of the pool died. There will be no more results.
        """
        return future.result()

    def close(self) -> None:
        """End the processes. Frames whose results were not taken are dropped."""
        # One call for each executor: a second call could not cancel or wait for anything.
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)
        if self._engine is not None:
            self._engine.close()


class ComputedEngine:
    """An `InferenceEngine` whose results come from a pool. Call `expect` before each run."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._expected: Future[EngineOutput] | None = None
        self.name = pool.name

    def expect(self, future: Future[EngineOutput]) -> None:
        """Set the result of the next run."""
        self._expected = future

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`. `images` must be of the frame that was submitted."""
        future, self._expected = self._expected, None
        if future is None:
            raise EngineError("no frame has been submitted")
        return self._pool.result(future)

    def close(self) -> None:
        """Does nothing: the caller closes the pool."""


def _begin_worker() -> None:
    end_with_parent()
    # Ctrl-C goes to every process of the terminal; this one ends with the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _open_in_worker(
    folder: Path, description: BundleDescription, engine_name: str, threads: int, gpu: GpuOptions
) -> str:
    """Open the engine of this process. Returns its name."""
    global _own
    bundle = read_bundle(folder).with_sizes(description.input.sizes)
    # The whole description, which was checked and maybe signed: it holds the digest of every file.
    if bundle.description != description:
        raise EngineError(f"{folder}: the bundle was changed while the replay began; start it again")
    _own = open_engine(bundle, engine_name, threads, gpu)
    return _own.name


def _run_in_worker(image: NDArray[np.uint8]) -> EngineOutput:
    assert _own is not None
    return _own.run(image[None])
