"""Activation normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.flow.transform import Transform
from training.runs.shared_batch import mean_over_processes


class ActivationNorm(Transform):
    """z = (x - shift) exp(log_scale), per channel (Kingma and Dhariwal, Glow, arXiv 1807.03039, section 3.1).

    The first batch in training mode sets shift and scale, so that its z has mean 0 and variance 1. The statistics are
    those of all processes that share the batch. From then on shift and scale are learnt.

    (N, C, H, W) <-> (N, C, H, W).

    >>> layer = ActivationNorm(3)
    >>> z, log_determinant = layer(5 + 2 * torch.randn(8, 3, 16, 16))
    >>> torch.allclose(z.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    True
    >>> torch.allclose(z.var(dim=(0, 2, 3)), torch.ones(3), atol=1e-2)
    True

    Args:
        channels: C.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, C, H, W) float and H W sum(log_scale) (N,)."""
        if self.training and not self.initialised:
            self._initialise(x)
        z = (x - self.shift[:, None, None]) * self.log_scale.exp()[:, None, None]
        return z, (self.log_scale.sum() * x.shape[2] * x.shape[3]).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, C, H, W) float."""
        return z * (-self.log_scale).exp()[:, None, None] + self.shift[:, None, None]

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        # The parts of the processes have one size, so the mean of their means is that of the batch.
        mean = mean_over_processes(x.mean(dim=(0, 2, 3)))
        variance = mean_over_processes((x - mean[:, None, None]).square().mean(dim=(0, 2, 3)))
        self.shift.copy_(mean)
        self.log_scale.copy_(-0.5 * torch.log(variance + 1e-6))
        self.initialised.fill_(True)
