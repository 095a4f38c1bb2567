"""The source of an import as the engine that its bundle is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros_ood_perception.bundle.model_bundle import ScoreDescription
from ros_ood_perception.inference.engine import EngineOutput
from training.bundles.graph import LOGITS, source_of_score
from training.bundles.networks.assembly import ImageToInput
from training.importing.imported_network import ImportedNetwork
from training.segmenter.mask_scores import ALL_SCORES, logits_of_sums
from training.segmenter.segmenter import ClassIds, UpSampledScore, claimed, is_whole_part, up_sampled


class SourceEngine:
    """The source's own network in PyTorch (or ONNX Runtime) as an `InferenceEngine`: the reference of the graph."""

    name = "source"

    def __init__(self, network: ImportedNetwork, score: ScoreDescription) -> None:
        self._to_input = ImageToInput(network.input)
        self._network: Callable[[Tensor], Tensor] = network.reference
        self._dense = network.dense_reference
        self._of_masks, self._size = network.of_masks, network.input.size
        self._score, self._temperature = score.name, score.temperature

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """(1, H, W, 3) uint8 -> the outputs at the bundle's input size."""
        with torch.no_grad():
            values = self._network(self._to_input(torch.from_numpy(np.ascontiguousarray(images))))
            if not is_whole_part((int(values.shape[2]), int(values.shape[3])), self._size):
                values = up_sampled(values, self._size)
            self._last = values
            return self._outputs(values)

    def run_dense(self, images: NDArray[np.uint8]) -> EngineOutput | None:
        """The same with the masks up-sampled first; None for other networks."""
        if self._dense is None:
            return None
        with torch.no_grad():
            return self._outputs(self._dense(self._to_input(torch.from_numpy(np.ascontiguousarray(images)))))

    def _outputs(self, values: Tensor) -> EngineOutput:
        semantic = ClassIds(self._size, self._of_masks)(values)
        of_logits = self._of_masks and source_of_score(self._score, True) == LOGITS
        scored = logits_of_sums(values) if of_logits else values
        small = ALL_SCORES[self._score].in_unit_range(scored, self._temperature)
        return EngineOutput(semantic.numpy(), UpSampledScore(self._size)(small).numpy())

    def claimed(self) -> NDArray[np.bool_]:
        """Where a mask claims the pixels of the last image: (1, h, w) bool. Networks of logits claim all."""
        return claimed(self._last, self._size, self._of_masks).numpy()

    def close(self) -> None:
        """Nothing to free."""
