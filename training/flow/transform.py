"""What every layer of the flow is: a bijection of feature maps with its log-determinant."""

from __future__ import annotations

import abc

from torch import Tensor, nn


class Transform(nn.Module, abc.ABC):
    """A bijection of feature maps of any height and width.

    >>> layer = Squeeze()
    >>> z, log_determinant = layer(x)  # (N, C, H, W) -> (N, 4 C, H/2, W/2), (N,)
    >>> x_again = layer.inverse(z)
    """

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W) float -> z (N, C', H', W') float and log |det dz/dx| (N,) float, in nats."""

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z (N, C', H', W') float -> x (N, C, H, W) float."""
