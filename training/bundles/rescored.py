"""A bundle's graph with another anomaly score: everything from the logits to the score is replaced."""

from __future__ import annotations

from dataclasses import replace

import onnx
import torch
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, Bundle, ScoreDescription
from training.bundles.graph import LOGITS, TEMPERATURE, GraphError, has_mask_sums, source_of_score, with_temperature
from training.bundles.onnx_export import finished, traced_piece
from training.segmenter.mask_scores import ALL_SCORES

PREFIX = "score"
"""First part of the names in the new piece, which no exported graph has otherwise."""


class ScoreOfLogits(nn.Module):
    """Logits (N, K, h, w) float32, or mask sums (N, K + 1, h, w) -> a score of them (N, 1, h, w) float32 in [0, 1]."""

    temperature: Tensor

    def __init__(self, score: str, temperature: float) -> None:
        super().__init__()
        self.score = ALL_SCORES[score]
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, logits: Tensor) -> Tensor:
        return self.score.in_unit_range(logits, self.temperature)


def rescored(bundle: Bundle, score: ScoreDescription) -> Bundle:
    """The bundle with another score or another temperature of it, at each size, in memory. Variants stay as they are.

    Raises:
        GraphError: a graph lacks the named parts.
    """
    model, *further = (_rescored(graph, bundle, score) for graph in (bundle.model, *bundle.further_models))
    description = replace(bundle.description, score=score)
    return replace(bundle, description=description, model=model, further_models=tuple(further))


def rescored_files(bundle: Bundle, score: ScoreDescription) -> dict[str, bytes]:
    """The graphs of a bundle besides `model.onnx`, with another score or another temperature of it, by file name.

    Raises:
        BundleError: a file is missing or was changed.
        GraphError: a graph lacks the named parts.
    """
    return {name: _rescored(graph, bundle, score) for name, graph in bundle.files().items()}


def _rescored(model: bytes, bundle: Bundle, score: ScoreDescription) -> bytes:
    if score.name == bundle.description.score.name:
        return with_temperature(model, score.temperature)
    return with_score(model, score.name, score.temperature, len(bundle.description.classes))


def with_score(model: bytes, score: str, temperature: float, num_classes: int) -> bytes:
    """The graph with another score at a temperature. Its class ids and all properties stay.

    Args:
        score: one of `training.segmenter.mask_scores.ALL_SCORES`.

    Raises:
        GraphError: the graph has no tensor `LOGITS` or none `ANOMALY_AT_LOGITS`, or the score does not
            suit its network.
    """
    graph = onnx.load_from_string(model)
    made = {name for node in graph.graph.node for name in node.output}
    for name in (LOGITS, ANOMALY_AT_LOGITS):
        if name not in made:
            raise GraphError(f"the model has no tensor '{name}'; export the bundle again")
    name = source_of_score(score, has_mask_sums(graph))
    source = _as_float(graph.graph, name)
    piece = score_piece(score, temperature, name, num_classes + int(name != LOGITS))
    _rename_input(piece, name, source)
    nodes = [node for node in graph.graph.node if not _is_of_score(node)]
    at = 1 + next(index for index, node in enumerate(nodes) if source in node.output)
    # The logits of a network of masks stay, though its score may not need them: calibration reads them.
    outputs = [LOGITS, *(output.name for output in graph.graph.output)]
    kept = _needed([*nodes[:at], *piece.node, *nodes[at:]], outputs)
    used = {name for node in kept for name in node.input}
    tensors = [t for t in (*graph.graph.initializer, *piece.initializer) if t.name in used]
    stored = {t.name: t for t in tensors}  # a new temperature takes the place of the old one
    del graph.graph.node[:], graph.graph.initializer[:], graph.graph.value_info[:]
    graph.graph.node.extend(kept)
    graph.graph.initializer.extend(stored.values())
    return finished(graph, {entry.key: entry.value for entry in graph.metadata_props})


def score_piece(score: str, temperature: float, source: str, channels: int) -> onnx.GraphProto:
    """The nodes from a tensor of `channels` to `ANOMALY_AT_LOGITS`; names in between are below `PREFIX`."""
    axes = "N?hw"
    example = torch.zeros(2, channels, 8, 12)
    module = ScoreOfLogits(score, temperature).eval()
    return traced_piece(module, example, {source: axes}, {ANOMALY_AT_LOGITS: axes}, PREFIX, {TEMPERATURE})


def _is_of_score(node: onnx.NodeProto) -> bool:
    """Whether a node makes the score before up-sampling, or is of an earlier `score_piece`."""
    return any(name == ANOMALY_AT_LOGITS or name.startswith(f"{PREFIX}/") for name in node.output)


def _as_float(graph: onnx.GraphProto, name: str) -> str:
    """Name of a tensor in float32: in a graph at float16, of what it is cast to."""
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] == name and node.attribute[0].i == onnx.TensorProto.FLOAT:
            return str(node.output[0])
    return name


def _rename_input(piece: onnx.GraphProto, old: str, new: str) -> None:
    for node in piece.node:
        for index, name in enumerate(node.input):
            node.input[index] = new if name == old else name


def _needed(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs need, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
