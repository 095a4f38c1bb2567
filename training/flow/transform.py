"""The interface of the flow's layers: a bijection of feature maps with its log-determinant."""

from __future__ import annotations

import abc

from torch import Tensor, nn


class Transform(nn.Module, abc.ABC):
    """A bijection f of feature maps of any height and width: z = f(x), with log |det dz/dx| and f^-1.

    Transforms are composed by adding their log-determinants:

    >>> import torch
    >>> from training.flow.activation_norm import ActivationNorm
    >>> from training.flow.squeeze import Squeeze
    >>> x = torch.randn(2, 3, 16, 24)
    >>> squeeze, norm = Squeeze(), ActivationNorm(12)
    >>> y, first = squeeze(x)
    >>> z, second = norm(y)
    >>> z.shape, (first + second).shape
    (torch.Size([2, 12, 8, 12]), torch.Size([2]))
    >>> torch.allclose(squeeze.inverse(norm.inverse(z)), x, atol=1e-5)
    True
    """

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data towards the latents.

        Args:
            x: (N, C, H, W) float.

        Returns:
            z (N, C', H', W') float and log |det dz/dx| (N,) float, in nats.
        """

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Map latents towards the data.

        Args:
            z: (N, C', H', W') float.

        Returns:
            x (N, C, H, W) float, of which `forward` makes z.
        """
