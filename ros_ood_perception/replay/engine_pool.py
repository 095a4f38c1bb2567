"""The engine, ahead of the frame whose turn it is: in a thread of this process, or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle import Bundle, read_bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions, InferenceEngine, open_engine

_own: InferenceEngine | None = None
"""The engine of a worker process."""


class EnginePool:
    """Gives each frame to an engine that is free, and each result to the frame that it is of.

    Args:
        bundle: verified.
        engine_name: of `ENGINES`.
        jobs: processes; 1: none beside this one.
        num_threads: of each engine; 0: every CPU that this process may use. Never fewer for more jobs: an engine's last
            bit can depend on it.

        gpu: what an engine on a GPU is opened for.

    Raises:
        EngineError: no engine can be opened.
    """

    def __init__(self, bundle: Bundle, engine_name: str, jobs: int, num_threads: int, gpu: GpuOptions) -> None:
        threads = num_threads or len(os.sched_getaffinity(0))
        self.num_threads = threads
        self.look_ahead = 2 * jobs
        self._engine: InferenceEngine | None = None
        if jobs == 1:
            self._engine = engine = open_engine(bundle, engine_name, threads, gpu)
            self.name = engine.name
            self._executor: ThreadPoolExecutor | ProcessPoolExecutor = ThreadPoolExecutor(1, "engine")
            self._run: Callable[[NDArray[np.uint8]], EngineOutput] = lambda image: engine.run(image[None])
        else:
            # Not forked: an engine's threads, and a GPU's driver, do not survive it.
            self._executor = ProcessPoolExecutor(
                jobs,
                multiprocessing.get_context("spawn"),
                _open_in_worker,
                (bundle.folder, bundle.description.model_sha256, engine_name, threads, gpu),
            )
            self._run = _run_in_worker
        try:
            if jobs > 1:
                self.name = self._executor.submit(_name_in_worker).result()
            # TensorRT 8.6 takes frames of one size only.
            description = bundle.description.input
            on_cpu = self.name == "onnxruntime"
            self.largest_size = None if on_cpu else gpu.image_size
            size = (description.height, description.width) if on_cpu else gpu.image_size
            self.result(self.submit(np.zeros((*size, 3), np.uint8)))
        except BaseException:
            self.close()
            raise

    def submit(self, image: NDArray[np.uint8]) -> Future[EngineOutput]:
        """Begin with a frame (H, W, 3) uint8 in the bundle's colour order."""
        return self._executor.submit(self._run, image)

    def result(self, future: Future[EngineOutput]) -> EngineOutput:
        """Wait for a frame's result.

        Raises:
            EngineError: the engine failed on it, or cannot be opened.
            BrokenExecutor: a process of the pool died: nothing more can come.
        """
        return future.result()

    def close(self) -> None:
        """End the processes; what was begun and not asked for is dropped."""
        self._executor.shutdown(cancel_futures=True)
        if self._engine is not None:
            self._engine.close()


class ComputedEngine:
    """An `InferenceEngine` for `Perception` whose results are on their way from a pool: `expect` before each run."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._expected: Future[EngineOutput] | None = None
        self.name = pool.name

    def expect(self, future: Future[EngineOutput]) -> None:
        """The result of the next run."""
        self._expected = future

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`; `images` must be what was submitted."""
        future, self._expected = self._expected, None
        if future is None:
            raise EngineError("no frame has been submitted")
        return self._pool.result(future)

    def close(self) -> None:
        """The pool is the caller's."""


def _open_in_worker(folder: Path, model_sha256: str, engine_name: str, threads: int, gpu: GpuOptions) -> None:
    global _own
    # Ctrl-C goes to every process of the terminal: this one ends when the pool does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bundle = read_bundle(folder)
    if bundle.description.model_sha256 != model_sha256:
        raise EngineError(f"{folder}: the bundle was changed while the replay began; start it again")
    _own = open_engine(bundle, engine_name, threads, gpu)


def _run_in_worker(image: NDArray[np.uint8]) -> EngineOutput:
    assert _own is not None
    return _own.run(image[None])


def _name_in_worker() -> str:
    assert _own is not None
    return _own.name
