"""Mixed precision in which autocast alone decides what is computed in bf16."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision


class AutocastPrecision(MixedPrecision):
    """`bf16-mixed` that leaves the inputs of a module as they are.

    Fabric's own casts every floating-point input: numbers of pixels, which losses are divided by, would be rounded to
    three digits, and so would the noise that the flow learns its likelihood with.
    """

    def convert_input(self, data: Any) -> Any:
        """As it is."""
        return data


def precision_plugins(precision: str, accelerator: str) -> list[Precision]:
    """What `Fabric(plugins=...)` needs for a precision of ours; nothing for one that is not mixed.

    Args:
        accelerator: a Fabric accelerator, or `auto`.
    """
    if precision != "bf16-mixed":
        return []
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return [AutocastPrecision("bf16-mixed", accelerator if accelerator in ("cpu", "mps") else "cuda")]
