"""Normalisation of an encoder's input: each encoder has its own mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_LEVEL = 1e6
"""Above it a mean or deviation is none of an image's, and float32 loses the image beside it."""


@dataclass(frozen=True)
class InputNormalisation:
    """(x - mean) / std, by channel.

    Attributes:
        mean, std: values of red, green and blue, in grey levels 0..255.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        # Written so that NaN is refused too.
        levels = all(abs(value) <= LARGEST_LEVEL for value in (*self.mean, *self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or not levels or not all(value > 0 for value in self.std):
            raise ValueError(f"mean is {self.mean}, std is {self.std}; give three grey levels each, deviations above 0")

    def __call__(self, image: Tensor) -> Tensor:
        """RGB (N, 3, H, W) float, 0..255 -> normalised (N, 3, H, W) float."""
        mean = torch.tensor(self.mean, device=image.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=image.device).view(1, 3, 1, 1)
        return (image - mean) / std


IMAGENET = InputNormalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of ImageNet's training images, which most encoders use."""
