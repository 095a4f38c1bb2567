"""A network of somebody else, as far as a bundle needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
from torch import Tensor

from ros_ood_perception.bundle.model_bundle import BundleClass
from training.segmenter.networks.network_input import NetworkInput


@dataclass(frozen=True)
class ImportedNetwork:
    """A network with what a bundle says about it.

    Attributes:
        graph: opset 17, one input (N, 3, h, w) float32 normalised, one output: logits (N, K, h/s, w/s) float32, or
            `training.segmenter.mask_scores.mask_sums` (N, K + 1, h/s, w/s).
        reference: the same by the source's own code, on one image: (1, 3, h, w) -> (1, K or K + 1, h/s, w/s).
        of_masks: whether the output is mask sums.
        classes: in the order of the channels.
        licence: of the weights.
        origin: what the source is, for the record.
        digest: SHA-256 of the source's weights, hexadecimal.
        parameters: number of the weights.
        notes: what the user should know, a sentence each.
        dense_reference: mask sums (1, K + 1, h, w) with the masks up-sampled first; None where `reference` does so.
    """

    graph: onnx.ModelProto
    reference: Callable[[Tensor], Tensor]
    of_masks: bool
    input: NetworkInput
    classes: Sequence[BundleClass]
    licence: str
    origin: str
    digest: str
    parameters: int
    notes: tuple[str, ...] = ()
    dense_reference: Callable[[Tensor], Tensor] | None = None


def size_note(wanted: tuple[int, int] | None, taken: tuple[int, int], why: str) -> tuple[str, ...]:
    """A sentence where the size is not the wanted one."""
    if wanted in (None, taken):
        return ()
    assert wanted is not None
    return (f"--size {wanted[0]}x{wanted[1]} became {taken[0]}x{taken[1]}: {why}",)
