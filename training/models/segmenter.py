"""The dense classifier: a pyramid encoder from `transformers` and a ladder decoder.

The decoder follows the ladder of Ladder-DenseNet (Kreso et al., arXiv 1905.05661) and SwiftNet (Orsic et al.,
arXiv 1903.08469): pyramid pooling on the coarsest map, then up-sampling step by step, each step blended with the
encoder's map of the same size through a lateral 1x1 convolution.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LOGIT_STRIDE = 4
"""The logits are computed at 1/4 of the network's input size."""

ENCODER_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class SegmenterConfig:
    """What the segmenter is made of.

    Attributes:
        backbone: a model type of `transformers`' `AutoBackbone` that gives maps at strides 4, 8, 16 and 32.
        backbone_settings: fields of that type's configuration; the default is ResNet-18.
        pretrained: a hub name (`microsoft/resnet-18`) or a local folder to take encoder weights from, or null.
        decoder_channels: width of the ladder.
        pooling_bins: grids of the pyramid pooling; (1, 2, 4) pools the coarsest map to 1x1, 2x2 and 4x4.
    """

    backbone: str = "resnet"
    backbone_settings: dict[str, Any] = field(
        default_factory=lambda: {
            "embedding_size": 64,
            "hidden_sizes": [64, 128, 256, 512],
            "depths": [2, 2, 2, 2],
            "layer_type": "basic",
        }
    )
    pretrained: str | None = None
    decoder_channels: int = 128
    pooling_bins: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        if self.decoder_channels < 1:
            raise ValueError(f"decoder_channels is {self.decoder_channels}; it must be at least 1")
        if not self.pooling_bins or min(self.pooling_bins) < 1:
            raise ValueError(f"pooling_bins is {self.pooling_bins}; give one or more positive grid sizes")


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidPooling(nn.Module):
    """Context of the whole frame for each place of the coarsest map (Zhao et al., arXiv 1612.01105).

    (N, C, h, w) -> (N, D, h, w).
    """

    def __init__(self, inputs: int, outputs: int, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.bins = bins
        self.reduce = _convolution(inputs, outputs, 1)
        branch = max(outputs // len(bins), 1)
        self.branches = nn.ModuleList(_convolution(outputs, branch, 1) for _ in bins)
        self.fuse = _convolution(outputs + branch * len(bins), outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.reduce(features)
        height, width = int(reduced.shape[2]), int(reduced.shape[3])
        maps = [reduced]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            if height % bins == 0 and width % bins == 0:
                # A fixed kernel and a fixed factor export without Shape nodes and without opset-18 reductions.
                pooled = branch(functional.avg_pool2d(reduced, (height // bins, width // bins)))
                factors = (float(height // bins), float(width // bins))
                maps.append(functional.interpolate(pooled, scale_factor=factors, mode="bilinear"))
            else:
                pooled = branch(functional.adaptive_avg_pool2d(reduced, bins))
                maps.append(functional.interpolate(pooled, size=(height, width), mode="bilinear"))
        return self.fuse(torch.cat(maps, dim=1))


class LadderSegmenter(nn.Module):
    """Image to class logits at 1/4 resolution.

    image (N, 3, H, W) float, normalised; H and W multiples of 32 -> logits (N, K, H/4, W/4) float.

    Args:
        encoder: `encoder_settings` of a network of which all weights will be loaded; None builds the encoder that
            `config` says, with its pretrained weights.
    """

    def __init__(self, config: SegmenterConfig, num_classes: int, encoder: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.encoder = _build_encoder(config) if encoder is None else _encoder_of(encoder)
        channels = _encoder_channels(self.encoder, config)
        width = config.decoder_channels
        self.context = PyramidPooling(channels[-1], width, config.pooling_bins)
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels[:-1])
        self.lateral_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in channels[:-1])
        self.blends = nn.ModuleList(_convolution(width, width, 3) for _ in channels[:-1])
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.encoder(image).feature_maps
        features = self.context(maps[-1])
        for level in reversed(range(len(self.laterals))):
            lateral = self.lateral_norms[level](self.laterals[level](maps[level]))
            features = functional.interpolate(features, scale_factor=2.0, mode="bilinear") + lateral
            features = self.blends[level](features)
        return self.classify(features)

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """What `encoder` takes to build the same network, as plain values: for checkpoints, which hold its weights."""
        config: Any = self.encoder.config
        found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
        return found

    def check_input_size(self, size: tuple[int, int]) -> None:
        """Raises ValueError: no input of this height and width can be exported."""
        if any(side % self.size_multiple for side in size):
            raise ValueError(
                f"height and width must be multiples of {self.size_multiple} (stride of the encoder times the finest "
                "grid of the pyramid pooling)"
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an exported input must be multiples of this many pixels."""
        multiple = 1
        for bins in self.config.pooling_bins:
            while multiple % bins:
                multiple += 1
        return ENCODER_STRIDES[-1] * multiple


def _build_encoder(config: SegmenterConfig) -> nn.Module:
    # Imported here: it takes seconds, and a reader of configurations does not need it.
    from transformers import AutoBackbone, AutoConfig

    stages = [f"stage{number}" for number in range(1, len(ENCODER_STRIDES) + 1)]
    if config.pretrained is not None:
        try:
            encoder_config = AutoConfig.from_pretrained(config.pretrained, out_features=stages)
            # AutoBackbone.from_pretrained asks the hub even for a local folder; the class that it would take does not.
            backbone = type(AutoBackbone.from_config(encoder_config))
            encoder, report = backbone.from_pretrained(
                config.pretrained, config=encoder_config, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the encoder weights '{config.pretrained}' cannot be had ({error}); give a local folder that "
                "transformers can read, or set 'pretrained: null' to train from random weights"
            ) from error
        # Some backbones normalise their maps with layers that no classifier was trained with.
        missing = [key for key in report["missing_keys"] if "hidden_states_norms" not in key]
        if missing:
            raise ValueError(
                f"the encoder weights '{config.pretrained}' lack {len(missing)} tensors, such as {missing[0]}"
            )
        return encoder
    encoder_config = AutoConfig.for_model(config.backbone, **config.backbone_settings, out_features=stages)
    return AutoBackbone.from_config(encoder_config)


def _encoder_of(settings: Mapping[str, Any]) -> nn.Module:
    from transformers import AutoBackbone, AutoConfig

    return AutoBackbone.from_config(AutoConfig.for_model(**settings))


def _encoder_channels(encoder: nn.Module, config: SegmenterConfig) -> list[int]:
    side = 2 * ENCODER_STRIDES[-1]
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, side, side)).feature_maps
    encoder.train(training)
    strides = tuple(side // int(m.shape[-1]) for m in maps)
    if strides != ENCODER_STRIDES:
        raise ValueError(
            f"the backbone '{config.pretrained or config.backbone}' gives maps at strides {strides}; "
            f"the ladder needs {ENCODER_STRIDES} (ResNet, ConvNeXt V2 and Swin give them)"
        )
    return [int(m.shape[1]) for m in maps]
