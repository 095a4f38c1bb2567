"""L_jsd: how far the prediction at pasted negatives is from uniform."""

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

    `jensen_shannon`: JSD(U, p), whose gradient d JSD / d logit_k = 1/2 p_k (r_k - sum_j p_j r_j), r = log(p / m),
    vanishes where p is certain: a negative that looks like an inlier does no harm (Grcic et al., arXiv 2112.12833).
    `kullback_leibler`: KL(U || p), which has no such mercy; for comparison.

    Args:
        logits: (N, K, H, W) float.
        mask: (N, H, W) bool, where negatives were pasted.
        denominator: () float, what the sum is divided by where these images are a part of the batch; None: the number
            of the mask's pixels.

    Returns:
        () float in nats; 0 where the mask is empty.
    """
    chosen = logits.permute(0, 2, 3, 1)[mask]
    total = _DIVERGENCES[divergence](chosen[:, :, None, None].float()).sum()
    return total / (mask.sum().to(total) if denominator is None else denominator).clamp(min=1)
