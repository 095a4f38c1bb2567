"""The protocol that every engine follows, with its results, errors and options. `opening` opens one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError

ENGINES = ("auto", "tensorrt", "torch", "onnxruntime")
PRECISIONS = ("fp16", "fp32", "int8")

Precision = Literal["fp16", "fp32", "int8"]


class EngineError(PerceptionError, RuntimeError):
    """An engine cannot be opened, or cannot run. The message says which, why, and what to do."""


class ImageSizeError(EngineError):
    """The engine is well, and does not take images of this size."""


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

        An engine on a GPU takes frames of at most the size that it was opened for.

        Raises:
            EngineError: the engine failed on these images.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds. The engine is not used after it."""
        ...


@runtime_checkable
class CancellableEngine(Protocol):
    """An engine whose run can be ended before it is done."""

    def cancel(self) -> None:
        """Ask the run that another thread is in to end with an `EngineError`. The engine is only good to close then."""
        ...


def _log(text: str) -> None:
    logging.getLogger("ros_ood_perception").info(text)


@dataclass(frozen=True)
class GpuOptions:
    """What an engine on a GPU is made for. The CPU engine has no use for any of it.

    Attributes:
        precision: what the network computes in; the bundle must have that form of the model.
        image_size: height and width of the largest frame, pixels. TensorRT 8.6: of every frame.
        batch: the most frames (cameras) of one inference; more are run one batch after the other.
        build: make what takes minutes if it is not there: a TensorRT plan, or torch's compiled kernels.
        cache: folder of plans; None takes `plan_cache.default_folder()`.
    """

    precision: Precision = "fp16"
    image_size: tuple[int, int] = (1080, 1920)
    batch: int = 1
    build: bool = False
    cache: Path | None = None
    log: Callable[[str], None] = field(default=_log, compare=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise EngineError(f"the precision '{self.precision}' is unknown; there are {', '.join(PRECISIONS)}")
        if min(self.image_size) < 1 or self.batch < 1:
            raise EngineError(
                f"an engine for {self.batch} frames of {self.image_size[0]}x{self.image_size[1]} is not possible; "
                "height, width and batch are at least 1"
            )
