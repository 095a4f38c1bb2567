"""Random colours for patches: mean colour, contrast, mixture and order of the channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN = (20, 235)
CHROMA = 10.0
"""Standard deviation of a channel's mean from grey, in neutral colours, 0..255."""
CONTRAST = (6, 60)
"""Range of the standard deviation of a patch. Its logarithm is drawn uniformly."""


@dataclass(frozen=True)
class Colouring:
    """Colours of N patches.

    Attributes:
        mixing: (N, 3, 3), rows of unit length: each colour channel as a mixture of the patch's three.
        contrast: (N, 1, 1, 1), 0..255.
        mean: (N, 3, 1, 1), 0..255.
    """

    mixing: Tensor
    contrast: Tensor
    mean: Tensor

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, neutral: float = 0.0) -> Colouring:
        """Draw colours for `count` patches.

        Args:
            neutral: about this share of the patches gets colours near grey, as stone, rubber, metal and dirt have them.
        """
        mixing = torch.randn((count, 3, 3), generator=generator)
        mixing = mixing / mixing.norm(dim=2, keepdim=True)
        low, high = (math.log(limit) for limit in CONTRAST)
        contrast = torch.exp(low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator))
        mean = MEAN[0] + (MEAN[1] - MEAN[0]) * torch.rand((count, 3, 1, 1), generator=generator)
        if neutral:
            chosen = (torch.rand(count, generator=generator) < neutral)[:, None, None]
            chroma = CHROMA * torch.randn((count, 3, 1, 1), generator=generator)
            mean = torch.where(chosen[..., None], mean[:, :1] + chroma, mean)
            # One mixture for all channels: their structure is that of the lightness.
            mixing = torch.where(chosen, mixing[:, :1].expand_as(mixing), mixing)
        return cls(mixing, contrast, mean)

    def part(self, chosen: slice) -> Colouring:
        """The colours of some of the patches."""
        return Colouring(self.mixing[chosen], self.contrast[chosen], self.mean[chosen])

    def to(self, device: torch.device) -> Colouring:
        """The colours on another device."""
        return Colouring(self.mixing.to(device), self.contrast.to(device), self.mean.to(device))

    def apply(self, patches: Tensor) -> Tensor:
        """Patches (N, 3, h, w) float of any range, recoloured to about 0..255; differentiable."""
        centred = patches - patches.mean(dim=(2, 3), keepdim=True)
        structure = centred / (centred.std(dim=(2, 3), keepdim=True) + 1e-6)
        return self.mean + self.contrast * torch.einsum("nij,njhw->nihw", self.mixing, structure)


def channel_orders(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Orders of colour channels for `count` patches: (count, 3) int64. About `share` of them differ from 0, 1, 2."""
    orders = torch.tensor([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    drawn = orders[torch.randint(len(orders), (count,), generator=generator)]
    return torch.where(torch.rand(count, 1, generator=generator) < share, drawn, torch.arange(3))


def channels_shuffled(patches: Tensor, orders: Tensor) -> Tensor:
    """Each patch with its channels reordered: patches (N, 3, h, w), orders (N, 3) int64 -> (N, 3, h, w)."""
    return torch.stack([patch[order] for patch, order in zip(patches, orders.to(patches.device), strict=True)])
