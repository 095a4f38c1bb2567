"""The graph of a bundle around a network: camera bytes in front of it, classes and anomaly score behind it.

Networks of `transformers` and ONNX files of others get it, at import and after training here.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, ScoreDescription
from ros_ood_perception.shown_text import error_line
from training.bundles.graph import LOGITS, MASK_SUMS, NETWORK_INPUT, source_of_score
from training.bundles.networks.static_graph import static_graph
from training.bundles.onnx_export import finished, prefixed, traced, traced_piece
from training.bundles.rescored import score_piece
from training.segmenter.mask_scores import logits_of_sums
from training.segmenter.networks.network_input import NetworkInput
from training.segmenter.networks.refusal import NetworkRefusedError
from training.segmenter.networks.transformers_folder import quiet
from training.segmenter.segmenter import ClassIds, UpSampledScore, is_whole_part, up_sampled

NETWORK = "network"
"""First part of the names inside the network."""


class ImageToInput(nn.Module):
    """image (N, H, W, 3) uint8 RGB, any H and W -> the network's input (N, 3, h, w) float32."""

    def __init__(self, network_input: NetworkInput) -> None:
        super().__init__()
        self.input = network_input

    def forward(self, image: Tensor) -> Tensor:
        # Cast first: TensorRT refuses a uint8 tensor between nodes.
        pixels = image.float().permute(0, 3, 1, 2)
        resized = functional.interpolate(pixels, size=self.input.size, mode="bilinear", align_corners=False)
        normalised = self.input.normalisation(resized)
        return normalised[:, [2, 1, 0]] if self.input.bgr else normalised


class InputSizeLogits(nn.Module):
    """Logits at a resolution that is no whole part of the input's -> logits at the input's size."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, logits: Tensor) -> Tensor:
        return up_sampled(logits, self.size)


class SumsToLogits(nn.Module):
    """`mask_sums` -> the logits of `logits_of_sums`."""

    def forward(self, sums: Tensor) -> Tensor:
        return logits_of_sums(sums)


def assembled(
    graph: onnx.ModelProto,
    network_input: NetworkInput,
    num_classes: int,
    of_masks: bool,
    score: ScoreDescription,
    properties: dict[str, str],
) -> bytes:
    """The model of a bundle.

    Args:
        graph: of the network: opset 17, one input (N, 3, h, w) float32, one output at its own resolution, logits or
            `training.segmenter.mask_scores.mask_sums`.
        of_masks: whether they are mask sums.

    Raises:
        NetworkRefusedError: the network's output has another form.
        GraphError: the score does not suit the network.
        ExportError: a reader of bundles would refuse the graph.
    """
    size = network_input.size
    source = source_of_score(score.name, of_masks)
    output = MASK_SUMS if of_masks else LOGITS
    channels = num_classes + int(of_masks)
    shape = output_shape(graph)
    whole = is_whole_part(shape, size)
    parts = [
        traced_piece(
            ImageToInput(network_input), torch.zeros(2, *size, 3, dtype=torch.uint8),
            {"image": "NHW"}, {NETWORK_INPUT: "N"}, "image",
        ),
        _network_piece(graph, output if whole else f"{NETWORK}/{output}"),
    ]  # fmt: skip
    if not whole:
        parts.append(_piece(InputSizeLogits(size), f"{NETWORK}/{output}", output, (channels, *shape), "resized"))
        shape = size
    if of_masks:
        parts.append(_piece(SumsToLogits(), MASK_SUMS, LOGITS, (channels, *shape), "class_sums"))
    parts.append(score_piece(score.name, score.temperature, source, channels if source == output else channels - 1))
    parts.append(_piece(ClassIds(size, of_masks), output, "semantic", (channels, *shape), "classes"))
    parts.append(_piece(UpSampledScore(size), ANOMALY_AT_LOGITS, "anomaly", (1, *shape), "up_sampled"))
    levels = network_input.normalisation
    normalisation = {name: " ".join(f"{v:g}" for v in values) for name, values in (
        ("input_mean", levels.mean), ("input_std", levels.std),
    )}  # fmt: skip
    return finished(_joined(parts, size), properties | normalisation)


def network_graph(module: nn.Module, size: tuple[int, int], source: str) -> onnx.ModelProto:
    """The graph of a network for `assembled`.

    Args:
        module: (N, 3, h, w) float32 -> logits or mask sums, with the operators of opset 17.
        size: height and width of its input.
        source: what the network is, for messages.

    Raises:
        NetworkRefusedError: it cannot be exported at this size.
    """
    example = torch.zeros(2, 3, *size)
    with quiet():
        try:
            graph = traced(module, example, {"pixels": "N"}, {"output": "N"})
        except Exception as error:  # of the exporter and of the network's own code; no common base class
            raise NetworkRefusedError(
                f"{source} cannot be exported at {size[0]}x{size[1]} ({error_line(error)[:200]}); try another --size"
            ) from error
    return static_graph(graph)


def output_shape(graph: onnx.ModelProto) -> tuple[int, int]:
    """Height and width of the network's output.

    Raises:
        NetworkRefusedError: they are not fixed.
    """
    inferred = onnx.shape_inference.infer_shapes(graph)
    sides = inferred.graph.output[0].type.tensor_type.shape.dim
    if len(sides) != 4 or not all(side.HasField("dim_value") for side in sides[2:]):
        raise NetworkRefusedError(
            "the network's output is not (N, K, h, w) with a fixed height and width; export it at a fixed input size, "
            "with its class logits as the output"
        )
    return sides[2].dim_value, sides[3].dim_value


def _piece(module: nn.Module, source: str, target: str, shape: tuple[int, ...], prefix: str) -> onnx.GraphProto:
    return traced_piece(module, torch.zeros(2, *shape), {source: "N"}, {target: "N"}, prefix)


def _network_piece(model: onnx.ModelProto, output: str) -> onnx.GraphProto:
    """The network's nodes, whose input is `NETWORK_INPUT`."""
    piece = onnx.GraphProto()
    piece.CopyFrom(model.graph)
    ends = {piece.input[0].name: NETWORK_INPUT, piece.output[0].name: output}
    for node in piece.node:
        for names in (node.input, node.output):
            names[:] = [ends.get(name, name) for name in names]
    return prefixed(piece, NETWORK, {NETWORK_INPUT, output})


def _joined(parts: list[onnx.GraphProto], size: tuple[int, int]) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        [node for part in parts for node in part.node],
        "bundle",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [
            onnx.helper.make_tensor_value_info("semantic", onnx.TensorProto.UINT8, ["N", *size]),
            onnx.helper.make_tensor_value_info("anomaly", onnx.TensorProto.FLOAT, ["N", *size]),
        ],
        [tensor for part in parts for tensor in part.initializer],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], producer_name="pytorch")
    model.ir_version = 8  # TensorRT 8.6 reads no later one
    return model
