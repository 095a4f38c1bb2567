"""What is common to all networks that are trained here: values at the network's own resolution, and their up-sampling.

>>> logits = torch.zeros(1, 5, 24, 32)  # at 1/4 of 96x128
>>> tuple(up_sampled(logits, (96, 128)).shape)
(1, 5, 96, 128)
"""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.input_normalisation import InputNormalisation
from training.segmenter.mask_scores import class_sums, logits_of_sums


class Segmenter(nn.Module, abc.ABC):
    """A network with class logits for each pixel, or with masks.

    image (N, 3, H, W) float, normalised -> (N, C, h, w) float at its own resolution: class logits, C = K, or
    `training.segmenter.mask_scores.mask_sums`, C = K + 1, if `of_masks`.

    Attributes:
        num_classes: K.
        normalise: maps RGB 0..255 to the network's input, (N, 3, H, W) float -> (N, 3, H, W) float.
        of_masks: whether the network predicts masks.
        encoder_settings: plain values from which the network is built; checkpoints hold them.
    """

    num_classes: int
    normalise: InputNormalisation
    of_masks: bool = False
    encoder_settings: dict[str, Any]

    @abc.abstractmethod
    def in_encoder(self, name: str) -> bool:
        """Whether the weight of this name is of the encoder, which has a learning rate of its own."""

    @abc.abstractmethod
    def check_input_size(self, size: tuple[int, int]) -> None:
        """Raises ValueError: no input of this height and width can be exported."""

    def check_crop(self, size: tuple[int, int]) -> None:
        """Raises ValueError: the network cannot be trained on crops of this height and width."""

    def prepare_training(self) -> None:
        """Settle which weights are trained; before the optimiser is made."""

    def dense_logits(self, image: Tensor) -> Tensor:
        """Class logits at the image's size: (N, 3, H, W) float, normalised -> (N, K, H, W) float.

        Those of masks are log L_k, so that softmax gives L_k / sum_j L_j. The sums are up-sampled first, as the
        reference does before it takes the class.
        """
        values = self(image)
        dense = up_sampled(values, (int(image.shape[2]), int(image.shape[3])))
        return logits_of_sums(dense.float()) if self.of_masks else dense


def up_sampled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Values at a larger size, bilinear: (N, C, h, w) -> (N, C, *size).

    It keeps the precision of the values. Up-sampling is a convex combination, which half precision computes well, in
    half the time.
    """
    rows, columns = int(values.shape[2]), int(values.shape[3])
    if (rows, columns) == size:
        return values
    # Factors, and not a size: an exported graph then needs no Shape node.
    factors = (scale_of(rows, size[0]), scale_of(columns, size[1]))
    return functional.interpolate(values, scale_factor=factors, mode="bilinear", align_corners=False)


def scale_of(old: int, new: int) -> float:
    """The float32 factor by which engines, which round down, make `new` rows of `old`.

    >>> int(12 * float(np.float32(62 / 12))), int(12 * scale_of(12, 62))
    (61, 62)
    """
    factor = np.float32(new / old)
    return float(factor if int(old * float(factor)) == new else np.nextafter(factor, np.float32(np.inf)))


def is_whole_part(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether height and width of the values divide those of the input by one number."""
    return (
        all(whole % part == 0 for whole, part in zip(size, shape, strict=True))
        and len({whole // part for whole, part in zip(size, shape, strict=True)}) == 1
    )


CLAIMED = 0.5
"""A pixel is claimed where sum_i m_i max_k P_i(k) is at least this."""


def claimed(values: Tensor, size: tuple[int, int], of_masks: bool) -> Tensor:
    """Where a mask claims the pixels: (N, C, h, w) -> (N, *size) bool. Networks of logits claim all."""
    if not of_masks:
        return torch.ones((len(values), *size), dtype=torch.bool)
    return up_sampled(values[:, -1:], size)[:, 0] >= CLAIMED


class ClassIds(nn.Module):
    """Logits (or mask sums) at their own resolution -> semantic (N, h, w) uint8: the argmax of the up-sampled ones."""

    def __init__(self, size: tuple[int, int], of_masks: bool) -> None:
        super().__init__()
        self.size, self.of_masks = size, of_masks

    def forward(self, values: Tensor) -> Tensor:
        classes = class_sums(values) if self.of_masks else values
        return up_sampled(classes, self.size).argmax(dim=1).to(torch.float32).to(torch.uint8)


class UpSampledScore(nn.Module):
    """Score (N, 1, h/s, w/s) float32 -> anomaly (N, h, w) float32."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, score: Tensor) -> Tensor:
        return up_sampled(score, self.size)[:, 0]
