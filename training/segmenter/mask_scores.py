"""Classes and anomaly scores of networks that predict masks: Mask2Former, MaskFormer, OneFormer, EoMT.

Such a network has Q queries. Query i gives a distribution P_i over K classes and "no object", and a mask m_i in [0, 1].
Everything here is computed from two sums over the queries, which `mask_sums` puts into one tensor. So a graph that
holds this tensor can change its score, as a graph of logits can.

A pixel that no mask claims has sums near 0. Its class is then a choice among noise and means nothing. The scores of
`MASK_SCORES` are highest there.

>>> claimed_by_none = torch.full((1, 1, 1, 1), -20.0)  # one query, its mask's logit at one pixel
>>> sums = mask_sums(torch.tensor([[[9.0, 0.0, 0.0]]]), claimed_by_none)
>>> MASK_SCORES["rejected_by_all"].in_unit_range(sums, 1.0).item() > 0.999
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.segmenter.anomaly_scores import SCORES, Score

SMALLEST_SUM = 1e-6
"""Sums below count as this in the logits: the logarithm of 0 would be infinite."""


def mask_sums(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """L_k = sum_i P_i(k) m_i of each class, and E = sum_i m_i max_{k<=K} P_i(k).

    P_i = softmax(class logits of query i) over K classes and "no object"; m_i = sigmoid(mask logits). L_k is the
    semantic inference of Cheng et al. (arXiv 2107.06278), E the evidence of Grcić et al. (arXiv 2301.03407).

    Args:
        class_logits: (N, Q, K + 1) float; the last is "no object".
        mask_logits: (N, Q, h, w) float.

    Returns:
        (N, K + 1, h, w) float, at least 0: L_1 ... L_K, then E.
    """
    probabilities = torch.softmax(class_logits, dim=2)[:, :, :-1]
    evidence = probabilities.max(dim=2, keepdim=True).values
    weights = torch.cat((probabilities, evidence), dim=2).transpose(1, 2)
    height, width = int(mask_logits.shape[2]), int(mask_logits.shape[3])
    # A product of matrices: TensorRT reads not every Einsum.
    sums = torch.matmul(weights, torch.sigmoid(mask_logits).flatten(2))
    return sums.unflatten(2, (height, width))


def class_sums(sums: Tensor) -> Tensor:
    """L_k of `mask_sums`: (N, K + 1, h, w) -> (N, K, h, w). The class of a pixel is the argmax."""
    return sums[:, :-1]


def logits_of_sums(sums: Tensor) -> Tensor:
    """log L_k, so that softmax gives L_k / sum_j L_j: (N, K + 1, h, w) -> (N, K, h, w).

    The scores of logits are computed from it, and a temperature is fitted to it.
    """
    return torch.log(class_sums(sums).clamp(min=SMALLEST_SUM))


def rejected_by_all(sums: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """RbA = -sum_k tanh(L_k) (Nayal et al., arXiv 2211.14293).

    `mask_sums` (N, K + 1, h, w) float -> (N, 1, h, w) float in (-K, 0]. T divides it and does not change the order.

    >>> sums = torch.tensor([2.0, 0.5, 2.0]).view(1, 3, 1, 1)
    >>> round(rejected_by_all(sums).item(), 4)
    -1.4261
    """
    return -torch.tanh(class_sums(sums)).sum(dim=1, keepdim=True) / temperature


def ensemble_over_masks(sums: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """EAM - 1 = -sum_i m_i max_{k<=K} P_i(k) (Grcić et al., arXiv 2301.03407).

    `mask_sums` (N, K + 1, h, w) float -> (N, 1, h, w) float, at most 0. T divides it and does not change the order.

    >>> ensemble_over_masks(torch.tensor([0.7, 0.5, 0.75]).view(1, 3, 1, 1)).item()
    -0.75
    """
    return -sums[:, -1:] / temperature


MASK_SCORES = {
    # The sums may exceed 1 where masks overlap. The exponential keeps the order there.
    "rejected_by_all": Score("rejected by all (RbA)", rejected_by_all, lambda value, classes: torch.exp(value)),
    "ensemble_over_masks": Score(
        "ensemble over masks (EAM)", ensemble_over_masks, lambda value, classes: torch.exp(value)
    ),
}
"""Scores of `mask_sums`. Only networks of masks have them."""

ALL_SCORES = {**SCORES, **MASK_SCORES}
