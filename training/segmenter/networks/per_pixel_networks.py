"""Networks of `transformers` that give class logits for each pixel, in a form that can be exported.

Weights and results stay. What ONNX's opset 17 lacks is written with other operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.segmenter.input_normalisation import IMAGENET, InputNormalisation

HALVES = InputNormalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
UNIT = InputNormalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        normalisation: of its published weights, where the source does not say.
        multiple: of which height and width must be multiples, pixels.
        square: whether only squares of the configuration's `image_size` are possible.
        bgr: whether its published weights take blue, green, red.
        windows: whether it sees an image through square windows of `image_size`.
        encoder: first parts of the names of the encoder's weights, which keep a smaller learning rate.
    """

    normalisation: InputNormalisation = IMAGENET
    multiple: int = 32
    square: bool = False
    bgr: bool = False
    windows: bool = False
    encoder: tuple[str, ...] = ()


FAMILIES = {
    "segformer": Family(encoder=("segformer.",)),
    "upernet": Family(encoder=("backbone.",)),
    "dpt": Family(HALVES, square=True, encoder=("dpt.", "backbone.")),
    "beit": Family(HALVES, square=True, encoder=("beit.",)),
    "data2vec-vision": Family(HALVES, square=True, encoder=("data2vec_vision.",)),
    "mobilevit": Family(UNIT, bgr=True, encoder=("mobilevit.",)),
    # Its coarsest map, at 1/32, is cut into patches of 2x2.
    "mobilevitv2": Family(UNIT, bgr=True, multiple=64, encoder=("mobilevitv2.",)),
    "mobilenet_v2": Family(HALVES, encoder=("mobilenet_v2.",)),
}
"""By `model_type`."""


class LogitsOf(nn.Module):
    """(N, 3, h, w) float32 -> logits (N, K, h/s, w/s) float32, at the network's own resolution."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        if self.model.config.model_type == "upernet":
            # Its own forward up-samples the logits to the input's size, as the bundle's graph does later.
            return self.model.decode_head(self.model.backbone(pixels).feature_maps)
        return self.model(pixel_values=pixels).logits


class ConstantPool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling of a known size as two products with constant matrices: any size can be exported."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, *output_size)."""
        wanted = self.output_size if isinstance(self.output_size, tuple) else (self.output_size, self.output_size)
        rows, columns = (
            _pooling_matrix(int(side), side if target is None else target)
            for side, target in zip(input.shape[2:], wanted, strict=True)
        )
        return rows.to(input) @ input @ columns.T.contiguous().to(input)


def _pooling_matrix(side: int, target: int) -> Tensor:
    """(target, side): row i averages from floor(i side / target) to ceil((i + 1) side / target)."""
    # In NumPy: as operators of PyTorch, every row would be traced into the graph.
    matrix = np.zeros((target, side), np.float32)
    for row in range(target):
        first, last = row * side // target, -(-(row + 1) * side // target)
        matrix[row, first:last] = 1 / (last - first)
    return torch.from_numpy(matrix)


def make_exportable(model: Any) -> None:
    """Change a network in place so that it can be exported."""
    for module in model.modules():
        if type(module) is nn.AdaptiveAvgPool2d:
            # The class is changed, and not the module: some networks keep it in a list beside the registered one.
            module.__class__ = ConstantPool
        if type(module).__name__ == "MobileViTV2Layer":
            module.unfolding = _unfolding.__get__(module)
            module.folding = _folding.__get__(module)


def _unfolding(layer: Any, feature_map: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """`MobileViTV2Layer.unfolding` with reshapes: (N, C, h, w) -> (N, C, patch pixels, patches)."""
    channels, height, width = (int(side) for side in feature_map.shape[1:])
    tall, wide = layer.patch_height, layer.patch_width
    parts = feature_map.reshape(-1, channels, height // tall, tall, width // wide, wide)
    return parts.permute(0, 1, 3, 5, 2, 4).reshape(-1, channels, tall * wide, (height // tall) * (width // wide)), (
        height,
        width,
    )


def _folding(layer: Any, patches: Tensor, output_size: tuple[int, int]) -> Tensor:
    """The inverse of `_unfolding`."""
    height, width = output_size
    tall, wide, channels = layer.patch_height, layer.patch_width, int(patches.shape[1])
    parts = patches.reshape(-1, channels, tall, wide, height // tall, width // wide)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(-1, channels, height, width)
