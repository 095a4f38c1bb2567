"""The graph of a bundle around a network: camera bytes in front of it, classes and anomaly score behind it.

The same modules, run in PyTorch, turn the source's own output into the classes and the score to compare with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS
from ros_ood_perception.inference.engine import EngineOutput
from training.bundles.graph import LOGITS, MASK_SUMS, NETWORK_INPUT, source_of_score
from training.bundles.onnx_export import finished, prefixed, traced_piece
from training.bundles.rescored import score_piece
from training.importing.imported_network import ImportedNetwork, ImportRefusedError, NetworkInput
from training.importing.static_graph import scale_of
from training.segmenter.mask_scores import ALL_SCORES, class_sums, logits_of_sums

CLAIMED = 0.5
"""A pixel is claimed where sum_i m_i max_k P_i(k) is at least this."""

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
        return _up_sampled(logits, self.size)


class SumsToLogits(nn.Module):
    """`mask_sums` -> the logits of `logits_of_sums`."""

    def forward(self, sums: Tensor) -> Tensor:
        return logits_of_sums(sums)


class ClassIds(nn.Module):
    """Logits (or mask sums) at their own resolution -> semantic (N, h, w) uint8: the argmax of the up-sampled ones."""

    def __init__(self, size: tuple[int, int], of_masks: bool) -> None:
        super().__init__()
        self.size, self.of_masks = size, of_masks

    def forward(self, values: Tensor) -> Tensor:
        classes = class_sums(values) if self.of_masks else values
        return _up_sampled(classes, self.size).argmax(dim=1).to(torch.float32).to(torch.uint8)


class UpSampledScore(nn.Module):
    """Score (N, 1, h/s, w/s) float32 -> anomaly (N, h, w) float32."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, score: Tensor) -> Tensor:
        return _up_sampled(score, self.size)[:, 0]


def _up_sampled(values: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = int(values.shape[2]), int(values.shape[3])
    if (rows, columns) == size:
        return values
    # Factors, and not a size: the graph then needs no Shape node.
    return functional.interpolate(
        values,
        scale_factor=(scale_of(rows, size[0]), scale_of(columns, size[1])),
        mode="bilinear",
        align_corners=False,
    )


def is_whole_part(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether height and width of the logits divide those of the input by one number."""
    return (
        all(whole % part == 0 for whole, part in zip(size, shape, strict=True))
        and len({whole // part for whole, part in zip(size, shape, strict=True)}) == 1
    )


def assembled(network: ImportedNetwork, score: str, temperature: float, properties: dict[str, str]) -> bytes:
    """The model of a bundle.

    Raises:
        ImportRefusedError: the network's output has another form.
        GraphError: the score does not suit the network.
        ExportError: a reader of bundles would refuse the graph.
    """
    size, of_masks = network.input.size, network.of_masks
    source = source_of_score(score, of_masks)
    output = MASK_SUMS if of_masks else LOGITS
    channels = len(network.classes) + int(of_masks)
    shape = output_shape(network.graph)
    whole = is_whole_part(shape, size)
    parts = [
        traced_piece(
            ImageToInput(network.input), torch.zeros(2, *size, 3, dtype=torch.uint8),
            {"image": "NHW"}, {NETWORK_INPUT: "N"}, "image",
        ),
        _network_piece(network.graph, output if whole else f"{NETWORK}/{output}"),
    ]  # fmt: skip
    if not whole:
        parts.append(_piece(InputSizeLogits(size), f"{NETWORK}/{output}", output, (channels, *shape), "resized"))
        shape = size
    if of_masks:
        parts.append(_piece(SumsToLogits(), MASK_SUMS, LOGITS, (channels, *shape), "class_sums"))
    parts.append(score_piece(score, temperature, source, channels if source == output else channels - 1))
    parts.append(_piece(ClassIds(size, of_masks), output, "semantic", (channels, *shape), "classes"))
    parts.append(_piece(UpSampledScore(size), ANOMALY_AT_LOGITS, "anomaly", (1, *shape), "up_sampled"))
    levels = network.input.normalisation
    normalisation = {name: " ".join(f"{v:g}" for v in values) for name, values in (
        ("input_mean", levels.mean), ("input_std", levels.std),
    )}  # fmt: skip
    return finished(_joined(parts, size), properties | normalisation)


def output_shape(graph: onnx.ModelProto) -> tuple[int, int]:
    """Height and width of the network's output.

    Raises:
        ImportRefusedError: they are not fixed.
    """
    inferred = onnx.shape_inference.infer_shapes(graph)
    sides = inferred.graph.output[0].type.tensor_type.shape.dim
    if len(sides) != 4 or not all(side.HasField("dim_value") for side in sides[2:]):
        raise ImportRefusedError(
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


class SourceEngine:
    """The source's own network in PyTorch (or ONNX Runtime) as an `InferenceEngine`: the reference of the graph."""

    name = "source"

    def __init__(self, network: ImportedNetwork, score: str, temperature: float) -> None:
        self._to_input = ImageToInput(network.input)
        self._network: Callable[[Tensor], Tensor] = network.reference
        self._dense = network.dense_reference
        self._of_masks, self._size = network.of_masks, network.input.size
        self._score, self._temperature = score, temperature

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """(1, H, W, 3) uint8 -> the outputs at the bundle's input size."""
        with torch.no_grad():
            values = self._network(self._to_input(torch.from_numpy(np.ascontiguousarray(images))))
            if not is_whole_part((int(values.shape[2]), int(values.shape[3])), self._size):
                values = _up_sampled(values, self._size)
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
        if not self._of_masks:
            return np.ones((1, *self._size), bool)
        return (_up_sampled(self._last[:, -1:], self._size)[:, 0] >= CLAIMED).numpy()

    def close(self) -> None:
        """Nothing to free."""
