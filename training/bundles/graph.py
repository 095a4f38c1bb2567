"""The named parts of a bundle's graph: the network's input, the logits, and the temperature of the score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, Bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from training.segmenter.anomaly_scores import SCORES
from training.segmenter.mask_scores import ALL_SCORES, MASK_SCORES

NETWORK_INPUT = "network_input"
"""Name of the tensor (N, 3, h, w) float32, resized and normalised, that enters the network; not in older bundles."""

LOGITS = "logits"
"""Name of the tensor (N, K, h/s, w/s) float32 from which the score is computed; s is 4 for networks trained here."""

MASK_SUMS = "mask_sums"
"""Name of the tensor (N, K + 1, h/s, w/s) float32 of networks of masks, see `training.segmenter.mask_scores`. The
logits are computed from it."""

TEMPERATURE = "temperature"
"""Name of the initializer () float32 by which the score divides the logits."""


class GraphError(PerceptionError, ValueError):
    """A graph lacks the named parts, because another version exported it, or is of another network."""


def name_logits(graph: onnx.ModelProto, producer_weight: str) -> None:
    """Name the output of the convolution with this weight `LOGITS`.

    Raises:
        GraphError: there is no such convolution, or no initializer `TEMPERATURE`.
    """
    producers = [node for node in graph.graph.node if producer_weight in node.input]
    if len(producers) != 1 or TEMPERATURE not in {tensor.name for tensor in graph.graph.initializer}:
        raise GraphError("the exporter changed the names of the logits' weights or of the temperature")
    _rename(graph, producers[0].output[0], LOGITS)


def name_anomaly_at_logits(graph: onnx.ModelProto) -> None:
    """Name the score before up-sampling `ANOMALY_AT_LOGITS`.

    Raises:
        GraphError: the output `anomaly` does not come from an up-sampling.
    """
    producers = {name: node for node in graph.graph.node for name in node.output}
    resize = producers[producers["anomaly"].input[0]]
    if resize.op_type != "Resize":
        raise GraphError(f"the anomaly score comes from a {resize.op_type}, not from an up-sampling")
    _rename(graph, resize.input[0], ANOMALY_AT_LOGITS)


def _rename(graph: onnx.ModelProto, old: str, new: str) -> None:
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def with_temperature(model: bytes, temperature: float) -> bytes:
    """The graph with another temperature.

    Raises:
        GraphError: it has no initializer `TEMPERATURE`.
    """
    graph = onnx.load_from_string(model)
    for tensor in graph.graph.initializer:
        if tensor.name == TEMPERATURE:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(temperature, np.float32), TEMPERATURE))
            return graph.SerializeToString()
    raise GraphError(f"the model has no initializer '{TEMPERATURE}'; export the bundle again")


def has_mask_sums(graph: onnx.ModelProto) -> bool:
    """Whether the graph is of a network of masks."""
    return any(MASK_SUMS in node.output for node in graph.graph.node)


def source_of_score(score: str, of_masks: bool) -> str:
    """Name of the tensor that a score is computed from: `LOGITS` or `MASK_SUMS`.

    Args:
        of_masks: whether the network predicts masks.

    Raises:
        GraphError: there is no such score, or it does not suit the network.
    """
    suitable = ALL_SCORES if of_masks else SCORES
    if score not in suitable:
        kind = "predicts masks" if of_masks else "gives logits and no masks"
        raise GraphError(f"the score '{score}' does not suit a network that {kind}; take one of {', '.join(suitable)}")
    return MASK_SUMS if score in MASK_SCORES else LOGITS


class LogitsEngine(OnnxRuntimeEngine):
    """The bundle's graph in ONNX Runtime, with the logits as a further output.

    Attributes:
        sources: names of the tensors that scores are computed from: `LOGITS`, and `MASK_SUMS` of networks of masks.

    Raises:
        GraphError: the graph has no tensor `LOGITS`.
    """

    def __init__(self, bundle: Bundle, num_threads: int = 0) -> None:
        graph = onnx.load_from_string(bundle.model)
        if not any(LOGITS in node.output for node in graph.graph.node):
            raise GraphError(f"the model of {bundle.folder} has no tensor '{LOGITS}'; export the bundle again")
        self.sources = (LOGITS, MASK_SUMS) if has_mask_sums(graph) else (LOGITS,)
        for name in self.sources:
            graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4))
        self.outputs = OnnxRuntimeEngine.outputs | dict.fromkeys(self.sources, "tensor(float)")  # type: ignore[misc]
        super().__init__(replace(bundle, model=graph.SerializeToString()), num_threads)
        self._size = bundle.description.input.size
        self._last: dict[str, NDArray[np.float32]] = {}

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """As `OnnxRuntimeEngine.run`. The tensors of `sources` are then in `last_logits` and `last_values`."""
        semantic, anomaly, *values = self._run(images)
        self._last = dict(zip(self.sources, values, strict=True))
        return EngineOutput(semantic=semantic, anomaly_score=anomaly)

    @property
    def last_logits(self) -> NDArray[np.float32]:
        """Logits of the last images: (N, K, h/s, w/s) float32."""
        return self._last[LOGITS]

    def last_values(self, score: str) -> NDArray[np.float32]:
        """What a score of the last images is computed from: (N, C, h/s, w/s) float32.

        Raises:
            GraphError: the score does not suit the network.
        """
        return self._last[source_of_score(score, MASK_SUMS in self.sources)]

    def up_sampled(self, plane: Tensor) -> NDArray[np.float32]:
        """A plane at the resolution of the logits, as the graph up-samples it: (N, 1, h/s, w/s) -> (N, h, w)."""
        if tuple(plane.shape[2:]) == self._size:
            return plane[:, 0].numpy()
        return functional.interpolate(plane, size=self._size, mode="bilinear")[:, 0].numpy()

    def score(self, score: str, temperature: float) -> NDArray[np.float32]:
        """A score of the last images, computed as in the graph: (N, h, w) float32 in [0, 1].

        Raises:
            GraphError: the score does not suit the network.
        """
        with torch.no_grad():
            values = torch.from_numpy(self.last_values(score))
            return self.up_sampled(ALL_SCORES[score].in_unit_range(values, temperature))

    def confidence(self, temperature: float) -> NDArray[np.float32]:
        """The largest class probability of the last images: (N, h, w) float32 in [0, 1]."""
        with torch.no_grad():
            probabilities = torch.softmax(torch.from_numpy(self.last_logits) / temperature, dim=1)
            return self.up_sampled(probabilities.max(dim=1, keepdim=True).values)
