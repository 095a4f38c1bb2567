"""Values that stay the same where their gradients do not."""

from __future__ import annotations

from torch import Tensor


def scaled_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values; gradients that flow back through them are multiplied by `factor`."""
    return values if factor == 1 else values.detach() + factor * (values - values.detach())


def within_range(patches: Tensor) -> Tensor:
    """Patches cut to 0..255, as any camera's pixels are; the gradient passes as if they were not cut."""
    return patches + (patches.clamp(0, 255) - patches).detach()
