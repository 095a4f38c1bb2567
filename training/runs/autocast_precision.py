"""Mixed precision in which only autocast decides what is computed in bf16."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision


class AutocastPrecision(MixedPrecision):
    """`bf16-mixed` that does not cast the inputs of a module.

    Fabric's own version casts every floating-point input. The numbers of pixels by which losses are divided, and the
    noise for the flow's likelihood, would then be rounded to three digits.
    """

    def convert_input(self, data: Any) -> Any:
        """The data, unchanged."""
        return data


def precision_plugins(precision: str, accelerator: str) -> list[Precision]:
    """The `plugins` of `Fabric` for a precision; empty unless it is mixed.

    Args:
        accelerator: a Fabric accelerator, or `auto`.
    """
    if precision != "bf16-mixed":
        return []
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return [AutocastPrecision("bf16-mixed", accelerator if accelerator in ("cpu", "mps") else "cuda")]
