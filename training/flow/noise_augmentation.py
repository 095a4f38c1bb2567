"""Cross-unit noise augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoiseAugmentation(nn.Module):
    """Further channels of noise, scaled and shifted by earlier representations (DenseFlow, arXiv 2106.04627).

    z = [x, e exp(s(c)) + t(c)] with e ~ N(0, I) and c the inputs of all units so far (section 3.1, equation 7). This is
    no bijection: log p(x) >= E_e[log p(z) - log N(e; 0, I) + sum s(c)] (equation 4). So a flow with growth gives a
    lower bound of its likelihood. The inverse drops the channels.

    >>> x = torch.randn(2, 12, 8, 8)
    >>> layer = NoiseAugmentation(context=12, growth=4, width=8)
    >>> z, term = layer(x, context=x)
    >>> z.shape, term.shape
    (torch.Size([2, 16, 8, 8]), torch.Size([2]))
    >>> torch.equal(layer.inverse(z), x)
    True

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
        """Append the noise channels.

        Args:
            x: (N, C, H, W) float.
            context: (N, D, H, W) float.
            noise: e, (N, growth, H, W) float, standard normal; None draws it.

        Returns:
            z (N, C + growth, H, W) float and its term of the bound (N,), in nats.
        """
        raw, shift = self.last(functional.silu(self.first(context))).chunk(2, dim=1)
        log_scale = 2.0 * torch.tanh(raw / 2.0)
        noise = torch.randn_like(shift) if noise is None else noise.to(shift)
        negative_log_density = 0.5 * (noise.square() + math.log(2 * math.pi))
        z = torch.cat([x, noise * log_scale.exp() + shift], dim=1)
        return z, (negative_log_density + log_scale).sum(dim=(1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C + growth, H, W) float -> (N, C, H, W) float."""
        return z[:, : z.shape[1] - self.growth]
