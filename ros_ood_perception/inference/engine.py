"""The protocol that every engine follows, with its results, errors and options. `opening` opens one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.engine_names import PRECISIONS, Precision


class EngineError(PerceptionError, RuntimeError):
    """An engine cannot be opened or cannot run. The message names the engine, the reason and the remedy."""


class ImageSizeError(EngineError):
    """The engine works, but does not take images of this size."""


@dataclass(frozen=True)
class EngineOutput:
    """The graph's outputs at the bundle's input size for these images (h, w).

    Attributes:
        semantic: (N, h, w) uint8 class ids.
        anomaly_score: (N, h, w) float32 in [0, 1], higher where more anomalous.
    """

    semantic: NDArray[np.uint8]
    anomaly_score: NDArray[np.float32]


class InferenceEngine(Protocol):
    """Runs one bundle's graph, at the input size of the images' aspect. Not thread-safe: one thread at a time."""

    name: str

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """Run the graph on images (N, H, W, 3) uint8 in the bundle's colour order; N, H and W at least 1.

        An engine on a GPU takes frames of at most the size that it was opened for.

        Raises:
            EngineError: the engine failed on these images.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. It must not be used after that."""
        ...


@runtime_checkable
class CancellableEngine(Protocol):
    """An engine whose run can be cancelled."""

    def cancel(self) -> None:
        """Make the run of another thread end with an `EngineError`. After that the engine can only be closed."""
        ...


def _log(text: str) -> None:
    logging.getLogger("ros_ood_perception").info(text)


@dataclass(frozen=True)
class GpuOptions:
    """Options of engines on a GPU. The CPU engine ignores them.

    Attributes:
        precision: of the network; the bundle must have the model in that precision.
        image_size: height and width of the largest image, pixels. TensorRT 8.6: of every image.
        batch: the most frames of one inference. More frames are run one batch after the other.
        build: build what is missing and takes minutes: a TensorRT plan, or torch's compiled kernels.
        cache: folder of plans; None: `plan_cache.default_folder()`.
        log: takes a line about what is opened or built.
    """

    precision: Precision = "fp16"
    image_size: tuple[int, int] = (1080, 1920)
    batch: int = 1
    build: bool = False
    cache: Path | None = None
    log: Callable[[str], None] = field(default=_log, compare=False)

    def for_input(self, model_input: InputDescription) -> GpuOptions:
        """The options of an engine on such a bundle: the images of a letterbox have the input's size."""
        return replace(self, image_size=model_input.size) if model_input.fit == "letterbox" else self

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise EngineError(f"the precision '{self.precision}' is unknown; there are {', '.join(PRECISIONS)}")
        if min(self.image_size) < 1 or self.batch < 1:
            raise EngineError(
                f"an engine for {self.batch} frames of {self.image_size[0]}x{self.image_size[1]} is not possible; "
                "height, width and batch are at least 1"
            )
