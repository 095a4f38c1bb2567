"""Procedural textures: negatives without any model of images, for comparison with the flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from training.joint.colouring import Colouring

ROUGHNESS = (0.3, 1.6)
"""Range of the exponent by which the amplitudes of the octaves fall off, from nearly white to smooth."""

STRIPES = 0.3
"""Share of the textures with stripes."""


def procedural_textures(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Multi-scale noise in random colours, some of it striped: (count, 3, height, width) float, 0..255.

    Each texture is a sum of smooth random fields, one for each octave from two pixels to the whole patch. Their
    amplitudes fall off as period^exponent, with an exponent drawn for each texture. The three colour channels are
    random mixtures of three such sums, around a random colour.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    field = torch.zeros(count, 3, height, width)
    exponent = uniform(*ROUGHNESS, count, 1, 1, 1)
    period = 2
    while period <= max(height, width):
        grid = (math.ceil(height / period) + 1, math.ceil(width / period) + 1)
        octave = torch.randn((count, 3, *grid), generator=generator)
        octave = functional.interpolate(octave, size=(height, width), mode="bicubic", align_corners=True)
        field += octave * (period / max(height, width)) ** exponent
        period *= 2
    y = torch.arange(height)[None, :, None] * 1.0
    x = torch.arange(width)[None, None, :] * 1.0
    angle = uniform(0, math.pi, count, 1, 1)
    frequency = 2 * math.pi / torch.exp(uniform(math.log(4), math.log(32), count, 1, 1))
    waves = torch.sin(frequency * (torch.cos(angle) * x + torch.sin(angle) * y) + field[:, 0])
    striped = torch.rand((count, 1, 1), generator=generator) < STRIPES
    field[:, 0] = torch.where(striped, 2 * waves, field[:, 0])
    return Colouring.draw(count, generator).apply(field).clamp(0, 255)
