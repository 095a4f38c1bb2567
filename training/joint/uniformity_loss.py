"""L_jsd: divergence of the prediction at pasted negatives from the uniform distribution."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from training.segmenter.anomaly_scores import jensen_shannon_to_uniform, kullback_leibler_to_uniform

Divergence = Literal["jensen_shannon", "kullback_leibler"]

_DIVERGENCES = {
    "jensen_shannon": lambda logits: -jensen_shannon_to_uniform(logits),
    "kullback_leibler": lambda logits: -kullback_leibler_to_uniform(logits),
}


def uniformity_loss(logits: Tensor, mask: Tensor, divergence: Divergence, denominator: Tensor | None = None) -> Tensor:
    """Mean divergence between the prediction and the uniform distribution over the pixels of a mask.

    `jensen_shannon` is JSD(U, p). Its gradient d JSD / d logit_k = 1/2 p_k (r_k - sum_j p_j r_j), r = log(p / m),
    vanishes where p is certain. So a negative that looks like an inlier does no harm (Grcic et al., arXiv 2112.12833).
    `kullback_leibler` is KL(U || p), whose gradient does not vanish there; it is for comparison.

    >>> import torch
    >>> logits = torch.zeros(1, 4, 2, 2)
    >>> logits[0, 0, 0, 0] = 100.0  # one certain pixel, the others uniform
    >>> mask = torch.tensor([[[True, False], [False, False]]])
    >>> round(uniformity_loss(logits, mask, "jensen_shannon").item(), 4)
    0.3804
    >>> uniformity_loss(logits, ~mask, "jensen_shannon").item() < 1e-6
    True

    Args:
        logits: (N, K, H, W) float.
        mask: (N, H, W) bool, where negatives were pasted.
        denominator: () float, divisor of the sum, for images that are a part of a batch. None takes the number of
            pixels in the mask.

    Returns:
        () float in nats; 0 for an empty mask.
    """
    chosen = logits.permute(0, 2, 3, 1)[mask]
    total = _DIVERGENCES[divergence](chosen[:, :, None, None].float()).sum()
    return total / (mask.sum().to(total) if denominator is None else denominator).clamp(min=1)
