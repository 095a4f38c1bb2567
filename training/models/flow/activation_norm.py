"""Activation normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.flow.transform import Transform


class ActivationNorm(Transform):
    """z = (x - shift) exp(log_scale), per channel (Kingma and Dhariwal, Glow, arXiv 1807.03039, section 3.1).

    The first batch in training mode sets shift and scale so that its own z has mean 0 and variance 1; from then on
    they are learnt like any other parameter.

    (N, C, H, W) <-> (N, C, H, W).
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not self.initialised:
            self._initialise(x)
        z = (x - self.shift[:, None, None]) * self.log_scale.exp()[:, None, None]
        return z, (self.log_scale.sum() * x.shape[2] * x.shape[3]).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z * (-self.log_scale).exp()[:, None, None] + self.shift[:, None, None]

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Every process must start from one scale: that of the first.
            torch.distributed.broadcast(variance, 0)
            torch.distributed.broadcast(mean, 0)
        self.shift.copy_(mean)
        self.log_scale.copy_(-0.5 * torch.log(variance + 1e-6))
        self.initialised.fill_(True)
