"""The engines of a bundle's input sizes as one engine: each frame runs at the size that fits it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.inference.engine import CancellableEngine, EngineOutput, InferenceEngine


class EngineOfSizes:
    """An `InferenceEngine` of a bundle with several input sizes. All of them are open from the beginning.

    So a camera's first frame waits for no opening, and a size that cannot be opened is known before the drive. On the
    CPU an engine takes most of its memory in its first run, so a size that no camera needs costs little.

    Args:
        model_input: of the bundle.
        engines: of one kind, one for each of `model_input.sizes`. This object closes them.
    """

    def __init__(self, model_input: InputDescription, engines: Mapping[tuple[int, int], InferenceEngine]) -> None:
        self._input = model_input
        self._engines = dict(engines)
        self.name = self._engines[model_input.size].name

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`. The outputs have the size `model_input.size_for` of the images."""
        return self._engines[self._input.size_for((images.shape[1], images.shape[2]))].run(images)

    def cancel(self) -> None:
        """See `CancellableEngine`. An engine that cannot be cancelled runs to its end."""
        for engine in self._engines.values():
            if isinstance(engine, CancellableEngine):
                engine.cancel()

    def close(self) -> None:
        """Close all engines, also after one that fails to close; the first error is then raised."""
        errors = []
        for engine in self._engines.values():
            try:
                engine.close()
            except BaseException as error:  # after a GPU fault every call fails, also those that free memory
                errors.append(error)
        if errors:
            raise errors[0]
