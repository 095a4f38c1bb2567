"""The invertible 1x1 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.flow.transform import Transform


class InvertibleConvolution(Transform):
    """z = W x at every place, W = P L (U + diag(sign exp(log_diagonal))) (Glow, arXiv 1807.03039, section 3.2).

    P is a fixed permutation, L is lower triangular with a unit diagonal, and U is strictly upper triangular. So
    log |det W| is the sum of log_diagonal. W starts as a random rotation.

    (N, C, H, W) <-> (N, C, H, W).

    >>> x = torch.randn(2, 4, 8, 8)
    >>> layer = InvertibleConvolution(4)
    >>> z, log_determinant = layer(x)
    >>> torch.allclose(z.norm(dim=1), x.norm(dim=1), atol=1e-5)  # a rotation, before training
    True
    >>> torch.allclose(layer.inverse(z), x, atol=1e-5)
    True

    Args:
        channels: C.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper)
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        diagonal = torch.diag(self.sign * self.log_diagonal.exp())
        return self.lower.tril(-1) + identity, self.upper.triu(1) + diagonal

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, C, H, W) float and H W sum(log_diagonal) (N,)."""
        lower, upper = self._factors()
        weight = self.permutation @ lower @ upper
        log_determinant = self.log_diagonal.sum() * x.shape[2] * x.shape[3]
        return functional.conv2d(x, weight[:, :, None, None]), log_determinant.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, C, H, W) float."""
        lower, upper = self._factors()
        # Two triangular solves are more exact than inverting the product.
        solved = torch.linalg.solve_triangular(lower, self.permutation.T, upper=False, unitriangular=True)
        inverse = torch.linalg.solve_triangular(upper, solved, upper=True)
        return functional.conv2d(z, inverse[:, :, None, None])
