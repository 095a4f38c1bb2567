"""Random colours for patches: mean colour, contrast, mixture and order of the channels, light from one side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN = (20, 235)
CHROMA = 10.0
"""Standard deviation of a channel's mean from grey, in neutral colours, 0..255."""
CONTRAST = (3, 60)
"""Range of the standard deviation of a patch. Its logarithm is drawn uniformly."""
LARGEST_STEP = 60.0
"""Most by which the lightness of two faces differs, 0..255; and most of the fall of lightness over half a patch."""


@dataclass(frozen=True)
class Faces:
    """Two faces of different lightness in each of N patches.

    Attributes:
        normal: (N, 2), (y, x) of unit length, from the darker face to the lighter one or the other way round.
        offset: (N,), distance of their edge from the centre, where the patch reaches from -1 to 1.
        step: (N,), half of the difference in lightness, 0..255; 0 leaves a patch unchanged.
        fall: (N, 2), how much lightness changes from the centre to a side, by (y, x), 0..255.
    """

    normal: Tensor
    offset: Tensor
    step: Tensor
    fall: Tensor

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, share: float) -> Faces:
        """Draw faces for `count` patches, and none for about 1 - `share` of them."""
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        offset = torch.rand(count, generator=generator) - 0.5
        step = LARGEST_STEP / 2 * torch.rand(count, generator=generator)
        fall = LARGEST_STEP * (torch.rand((count, 2), generator=generator) - 0.5)
        chosen = torch.rand(count, generator=generator) < share
        normal = torch.stack((angle.sin(), angle.cos()), dim=1)
        return cls(normal, offset, torch.where(chosen, step, 0.0), torch.where(chosen[:, None], fall, 0.0))

    def map(self, function: Callable[[Tensor], Tensor]) -> Faces:
        """The faces with every tensor replaced by what the function gives for it."""
        return Faces(function(self.normal), function(self.offset), function(self.step), function(self.fall))

    def light(self, height: int, width: int) -> Tensor:
        """What they add to a patch: (N, 1, height, width)."""
        y = torch.linspace(-1, 1, height, device=self.step.device)[:, None]
        x = torch.linspace(-1, 1, width, device=self.step.device)[None]

        def along(direction: Tensor) -> Tensor:
            return direction[:, 0, None, None] * y + direction[:, 1, None, None] * x

        side = torch.sign(along(self.normal) - self.offset[:, None, None])
        return (self.step[:, None, None] * side + along(self.fall))[:, None]


@dataclass(frozen=True)
class Colouring:
    """Colours of N patches.

    Attributes:
        mixing: (N, 3, 3), rows of unit length: each colour channel as a mixture of the patch's three.
        contrast: (N, 1, 1, 1), 0..255.
        mean: (N, 3, 1, 1), 0..255.
        faces: None: none.
    """

    mixing: Tensor
    contrast: Tensor
    mean: Tensor
    faces: Faces | None = None

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, neutral: float = 0.0, faces: float = 0.0) -> Colouring:
        """Draw colours for `count` patches.

        Args:
            neutral: about this share of the patches gets colours near grey, as stone, rubber, metal and dirt have them.
            faces: about this share of the patches gets two faces of different lightness.
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
        return cls(mixing, contrast, mean, Faces.draw(count, generator, faces) if faces else None)

    def part(self, chosen: slice) -> Colouring:
        """The colours of some of the patches."""
        return self._map(lambda tensor: tensor[chosen])

    def to(self, device: torch.device) -> Colouring:
        """The colours on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Colouring:
        faces = None if self.faces is None else self.faces.map(function)
        return Colouring(function(self.mixing), function(self.contrast), function(self.mean), faces)

    def apply(self, patches: Tensor) -> Tensor:
        """Patches (N, 3, h, w) float of any range, recoloured to about 0..255; differentiable."""
        centred = patches - patches.mean(dim=(2, 3), keepdim=True)
        structure = centred / (centred.std(dim=(2, 3), keepdim=True) + 1e-6)
        coloured = self.mean + self.contrast * torch.einsum("nij,njhw->nihw", self.mixing, structure)
        return coloured if self.faces is None else coloured + self.faces.light(*patches.shape[2:])


def channel_orders(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Orders of colour channels for `count` patches: (count, 3) int64. About `share` of them differ from 0, 1, 2."""
    orders = torch.tensor([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    drawn = orders[torch.randint(len(orders), (count,), generator=generator)]
    return torch.where(torch.rand(count, 1, generator=generator) < share, drawn, torch.arange(3))


def channels_shuffled(patches: Tensor, orders: Tensor) -> Tensor:
    """Each patch with its channels reordered: patches (N, 3, h, w), orders (N, 3) int64 -> (N, 3, h, w)."""
    return torch.stack([patch[order] for patch, order in zip(patches, orders.to(patches.device), strict=True)])
