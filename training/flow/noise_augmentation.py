"""Cross-unit noise augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoiseAugmentation(nn.Module):
    """More channels, filled with noise that earlier representations scale and shift (DenseFlow, arXiv 2106.04627).

    z = [x, e exp(s(c)) + t(c)], e ~ N(0, I), c the inputs of all units so far (section 3.1, equation 7). Not a
    bijection: log p(x) >= E_e[log p(z) - log N(e; 0, I) + sum s(c)] (equation 4), so that a flow with growth gives a
    lower bound of its likelihood. The inverse drops the channels.

    Args:
        context: channels of c.
        growth: channels of e.
        width: of the network that conditions the noise.
    """

    def __init__(self, context: int, growth: int, width: int) -> None:
        super().__init__()
        self.growth = growth
        self.first = nn.Conv2d(context, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2 * growth, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W), context (N, D, H, W) -> z (N, C + growth, H, W) and its term of the bound (N,), in nats.

        `noise` is e (N, growth, H, W), standard normal; None draws it.
        """
        raw, shift = self.last(functional.silu(self.first(context))).chunk(2, dim=1)
        log_scale = 2.0 * torch.tanh(raw / 2.0)
        noise = torch.randn_like(shift) if noise is None else noise.to(shift)
        negative_log_density = 0.5 * (noise.square() + math.log(2 * math.pi))
        z = torch.cat([x, noise * log_scale.exp() + shift], dim=1)
        return z, (negative_log_density + log_scale).sum(dim=(1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C + growth, H, W) -> (N, C, H, W)."""
        return z[:, : z.shape[1] - self.growth]
