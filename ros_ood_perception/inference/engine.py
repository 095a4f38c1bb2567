"""The one protocol that every engine follows, and the way to open one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle import Bundle

ENGINES = ("auto", "onnxruntime")


class EngineError(RuntimeError):
    """An engine cannot be opened, or cannot run. The message says which, why, and what to do."""


@dataclass(frozen=True)
class EngineOutput:
    """What the graph gives, at the bundle's input size (h, w).

    Attributes:
        semantic: (N, h, w) uint8 class ids.
        anomaly_score: (N, h, w) float32 in [0, 1], higher where more anomalous.
    """

    semantic: NDArray[np.uint8]
    anomaly_score: NDArray[np.float32]


class InferenceEngine(Protocol):
    """Runs one bundle's graph. Not thread-safe: one thread at a time."""

    name: str

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """(N, H, W, 3) uint8 in the bundle's colour order, any N, H, W of at least 1.

        Raises:
            EngineError: the engine failed on these images.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds. The engine is not used after it."""
        ...


def open_engine(bundle: Bundle, name: str, num_threads: int = 0) -> InferenceEngine:
    """Open an engine on a verified bundle.

    Args:
        name: one of `ENGINES`; `auto` takes the fastest that this machine can run.
        num_threads: of the CPU engine; 0 takes every CPU that this process may use.

    Raises:
        EngineError: no such engine, or it cannot run the bundle here.
    """
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown; there are {', '.join(ENGINES)}")
    # Imported here: a vehicle installs only the engines that it runs.
    from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, num_threads)
