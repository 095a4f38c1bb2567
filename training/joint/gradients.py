"""Functions whose gradient differs from that of their value."""

from __future__ import annotations

from torch import Tensor


def scaled_gradient(values: Tensor, factor: float) -> Tensor:
    """The values unchanged; gradients through them are multiplied by `factor`."""
    return values if factor == 1 else values.detach() + factor * (values - values.detach())


def within_range(patches: Tensor) -> Tensor:
    """Patches clipped to 0..255, the range of a camera; the gradient passes as if they were not clipped."""
    return patches + (patches.clamp(0, 255) - patches).detach()
