"""Affine coupling and its conditioning network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.flow.transform import Transform

LARGEST_LOG_SCALE = 2.0


class CouplingNetwork(nn.Module):
    """Scale and shift of one half of the channels from the other half: a small densely connected block.

    Each layer sees the outputs of all layers before it (DenseFlow, Grcic et al., arXiv 2106.04627, section 3.2, without
    the attention branch). The last layer starts at zero, so the coupling starts as the identity.

    (N, C, H, W) float -> (N, D, H, W) float.

    Args:
        inputs, outputs: C and D.
        width: channels of each layer.
        depth: 3x3 layers before the last one.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(inputs + number * width, width, 3, padding=1) for number in range(depth))
        self.last = nn.Conv2d(inputs + depth * width, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, D, H, W) float."""
        features = x
        for layer in self.layers:
            features = torch.cat([features, functional.silu(layer(features))], dim=1)
        return self.last(features)


class AffineCoupling(Transform):
    """z_a = x_a, z_b = x_b exp(s(x_a)) + t(x_a) (RealNVP, arXiv 1605.08803, equations 7 and 8).

    The log-scale is bounded smoothly, s = 2 tanh(raw / 2). So samples from the tails of the latent distribution stay
    finite, and the inverse stays exact.

    (N, C, H, W) <-> (N, C, H, W), C at least 2.

    >>> x = torch.randn(2, 6, 8, 8)
    >>> layer = AffineCoupling(6, width=8, depth=2)
    >>> z, log_determinant = layer(x)
    >>> torch.equal(z, x), log_determinant.tolist()  # the identity, before training
    (True, [0.0, 0.0])

    Args:
        channels: C.
        width, depth: of the `CouplingNetwork`.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.network = CouplingNetwork(self.kept, 2 * (channels - self.kept), width, depth)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, dim=1)
        return LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, C, H, W) float and the sum of s over channels and places (N,)."""
        kept, changed = x[:, : self.kept], x[:, self.kept :]
        log_scale, shift = self._scale_and_shift(kept)
        z = torch.cat([kept, changed * log_scale.exp() + shift], dim=1)
        return z, log_scale.sum(dim=(1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, C, H, W) float."""
        kept, changed = z[:, : self.kept], z[:, self.kept :]
        log_scale, shift = self._scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1)
