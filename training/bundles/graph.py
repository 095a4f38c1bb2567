"""The named parts of a bundle's graph: the logits, and the temperature of the score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, Bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from training.segmenter.anomaly_scores import SCORES
from training.segmenter.ladder_segmenter import LOGIT_STRIDE

LOGITS = "logits"
"""Name of the tensor (N, K, h/4, w/4) float32 from which classes and score are computed."""

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


def _with_logits_output(bundle: Bundle) -> Bundle:
    graph = onnx.load_from_string(bundle.model)
    if not any(LOGITS in node.output for node in graph.graph.node):
        raise GraphError(f"the model of {bundle.folder} has no tensor '{LOGITS}'; export the bundle again")
    shape = ["N", len(bundle.description.classes), "h", "w"]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, shape))
    return replace(bundle, model=graph.SerializeToString())


class LogitsEngine(OnnxRuntimeEngine):
    """The bundle's graph in ONNX Runtime, with the logits as a further output.

    Raises:
        GraphError: the graph has no tensor `LOGITS`.
    """

    outputs = OnnxRuntimeEngine.outputs | {LOGITS: "tensor(float)"}

    def __init__(self, bundle: Bundle, num_threads: int = 0) -> None:
        super().__init__(_with_logits_output(bundle), num_threads)
        self.last_logits: NDArray[np.float32] = np.zeros((0, 0, 0, 0), np.float32)

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """As `OnnxRuntimeEngine.run`. The logits (N, K, h/4, w/4) float32 are then in `last_logits`."""
        semantic, anomaly, self.last_logits = self._run(images)
        return EngineOutput(semantic=semantic, anomaly_score=anomaly)


def score_of_logits(logits: NDArray[np.float32], score: str, temperature: float) -> NDArray[np.float32]:
    """A score of logits, computed as in the graph: (N, K, h/4, w/4) float32 -> (N, h, w) float32 in [0, 1].

    Raises:
        EngineError: there is no such score.
    """
    if score not in SCORES:
        raise EngineError(f"score '{score}' is unknown; there are {', '.join(SCORES)}")
    with torch.no_grad():
        small = SCORES[score].in_unit_range(torch.from_numpy(logits), temperature)
        return functional.interpolate(small, scale_factor=float(LOGIT_STRIDE), mode="bilinear")[:, 0].numpy()


def confidence_of_logits(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The largest class probability, up-sampled: (N, K, h/4, w/4) float32 -> (N, h, w) float32 in [0, 1]."""
    with torch.no_grad():
        small = torch.softmax(torch.from_numpy(logits) / temperature, dim=1).max(dim=1, keepdim=True).values
        return functional.interpolate(small, scale_factor=float(LOGIT_STRIDE), mode="bilinear")[:, 0].numpy()
