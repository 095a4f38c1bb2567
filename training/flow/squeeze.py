"""Squeeze: trades resolution for channels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training.flow.transform import Transform


class Squeeze(Transform):
    """Two by two neighbours become four channels (Dinh et al., RealNVP, arXiv 1605.08803, section 3.6).

    (N, C, H, W) <-> (N, 4 C, H/2, W/2), H and W even. The log-determinant is 0.

    >>> import torch
    >>> z, log_determinant = Squeeze()(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))
    >>> z.flatten().tolist(), z.shape, log_determinant.tolist()
    ([0.0, 1.0, 2.0, 3.0], torch.Size([1, 4, 1, 1]), [0.0])
    >>> Squeeze().inverse(z).tolist()
    [[[[0.0, 1.0], [2.0, 3.0]]]]
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, 4 C, H/2, W/2) float and zeros (N,)."""
        return functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """(N, 4 C, H/2, W/2) float -> (N, C, H, W) float."""
        return functional.pixel_shuffle(z, 2)
