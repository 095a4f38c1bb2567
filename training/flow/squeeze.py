"""Squeeze: resolution into channels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training.flow.transform import Transform


class Squeeze(Transform):
    """Two by two neighbours become four channels (Dinh et al., RealNVP, arXiv 1605.08803, section 3.6).

    (N, C, H, W) <-> (N, 4 C, H/2, W/2); H and W even. The log-determinant is 0.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return functional.pixel_shuffle(z, 2)
