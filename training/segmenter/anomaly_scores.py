"""Anomaly scores: pure functions of logits, each higher where more anomalous.

`SCORES` holds them by name. Each has its natural value, as its paper writes it, and a monotone map of that value to
[0, 1], which is what a bundle's graph computes: the order of the pixels, and so every metric, is the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

BORDER_WIDTHS = (2, 1)
"""Pixels of the logits on either side of a border between classes, widest first. Jung et al. begin with 8 pixels of the
frame, which are 2 of the logits, and halve."""


def _shifted(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits / T minus their maximum, the exponentials of that, and their sum over the classes.

    Maximum, exponential and sum are written out: in ONNX Runtime a `log_softmax` over the channels costs three times
    as much. The maximum through max() has indices nobody needs; amax() would lift the graph to opset 18.
    """
    scaled = logits / temperature
    shifted = scaled - scaled.max(dim=1, keepdim=True).values
    exponentials = torch.exp(shifted)
    return shifted, exponentials, exponentials.sum(dim=1, keepdim=True)


def maximum_softmax(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-max_k p_k, p = softmax(logits / T) (Hendrycks and Gimpel, arXiv 1610.02136).

    (N, K, h, w) float -> (N, 1, h, w) float in [-1, -1/K].
    """
    # The largest exponential is exp(0) = 1. Not 1 / total: that becomes a Reciprocal, which not every version of
    # TensorRT's parser reads.
    return -torch.exp(-torch.log(_shifted(logits, temperature)[2]))


def maximum_logit(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-max_k logit_k / T (Hendrycks et al., arXiv 1911.11132).

    (N, K, h, w) float -> (N, 1, h, w) float. T does not change the order.
    """
    return -(logits / temperature).max(dim=1, keepdim=True).values


def entropy(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """H(p) = -sum_k p_k log p_k in nats, p = softmax(logits / T) (Chan et al., arXiv 2012.06575).

    (N, K, h, w) float -> (N, 1, h, w) float in [0, log K].
    """
    shifted, exponentials, total = _shifted(logits, temperature)
    return torch.log(total) - (exponentials / total * shifted).sum(dim=1, keepdim=True)


def energy(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-T log sum_k exp(logit_k / T) (Liu et al., arXiv 2010.03759).

    (N, K, h, w) float -> (N, 1, h, w) float.
    """
    total = _shifted(logits, temperature)[2]
    return -logits.max(dim=1, keepdim=True).values - temperature * torch.log(total)


def kullback_leibler_to_uniform(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-KL(U || p) = log K + (1/K) sum_k log p_k in nats, p = softmax(logits / T).

    What outlier exposure trains towards zero (Hendrycks et al., arXiv 1812.04606).
    (N, K, h, w) float -> (N, 1, h, w) float, at most 0.
    """
    num_classes = int(logits.shape[1])  # a number: a tensor's size would be worked out in the exported graph
    shifted, _, total = _shifted(logits, temperature)
    return math.log(num_classes) + shifted.sum(dim=1, keepdim=True) / num_classes - torch.log(total)


def jensen_shannon_to_uniform(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-JSD(U, p) in nats, p = softmax(logits / T) (Grcic et al., arXiv 2112.12833).

    JSD(U, p) = H(m) - H(U)/2 - H(p)/2 with m = (U + p)/2. (N, K, h, w) float -> (N, 1, h, w) float in (-log 2, 0].
    """
    num_classes = int(logits.shape[1])
    shifted, exponentials, total = _shifted(logits, temperature)
    probabilities = exponentials / total
    own = torch.log(total) - (probabilities * shifted).sum(dim=1, keepdim=True)
    mean = 0.5 * probabilities + 0.5 / num_classes
    # Of p and m only are logarithms taken, and m is never 0.
    of_mean = -(mean * torch.log(mean)).sum(dim=1, keepdim=True)
    return 0.5 * own + 0.5 * math.log(num_classes) - of_mean


def largest_jensen_shannon_to_uniform(num_classes: int) -> float:
    """JSD(U, p) of a one-hot p in nats: the largest value there is for that many classes."""
    peak = (1 + 1 / num_classes) / 2
    rest = 1 / (2 * num_classes)
    entropy_of_mean = -peak * math.log(peak) - (num_classes - 1) * rest * math.log(rest)
    return entropy_of_mean - 0.5 * math.log(num_classes)


def border_suppressed(value: Tensor, logits: Tensor) -> Tensor:
    """A score whose values at the borders between predicted classes come from beside them.

    Networks hesitate at borders, and there the false alarms of most scores are. After the boundary suppression of
    Standardized Max Logits (Jung et al., arXiv 2107.11264): for each width of `BORDER_WIDTHS`, a pixel so close to
    another class takes the mean of those of its eight neighbours that are not; where there are none it keeps its value.
    The next, smaller width goes on inwards. Their standardisation by class is not done: it needs statistics of the
    training frames, which a graph's logits do not tell.

    Poolings of constant size alone, so that the graph has no shapes to work out.

    Args:
        value: (N, 1, h, w) float.
        logits: (N, K, h, w) float, of the same pixels.

    Returns:
        (N, 1, h, w) float, within the range of `value`.
    """
    classes = logits.argmax(dim=1, keepdim=True).to(value.dtype)
    for width in BORDER_WIDTHS:
        side = 2 * width + 1
        highest = functional.max_pool2d(classes, side, stride=1, padding=width)
        lowest = -functional.max_pool2d(-classes, side, stride=1, padding=width)
        # Ids differ by 1 or more where another class is near.
        border = (highest - lowest).clamp(0.0, 1.0)
        inside = 1.0 - border
        # Both means count the same nine places, the pixel's own and those beyond the map with 0.
        share = functional.avg_pool2d(inside, 3, stride=1, padding=1)
        mean = functional.avg_pool2d(value * inside, 3, stride=1, padding=1) / share.clamp(min=1 / 9)
        replaced = border * (9.0 * share).clamp(0.0, 1.0)
        value = (1.0 - replaced) * value + replaced * mean
    return value


@dataclass(frozen=True)
class Score:
    """A score and its map to [0, 1].

    Attributes:
        title: for tables.
        natural: (logits (N, K, h, w), T) -> (N, 1, h, w), higher where more anomalous.
        unit: (natural value, K) -> the same in [0, 1]: monotone, 1 at a uniform distribution where the score knows one.
    """

    title: str
    natural: Callable[[Tensor, float | Tensor], Tensor]
    unit: Callable[[Tensor, int], Tensor]

    def in_unit_range(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        """(N, K, h, w) float -> (N, 1, h, w) float in [0, 1]."""
        return self.unit(self.natural(logits, temperature), int(logits.shape[1])).clamp(0.0, 1.0)


SCORES = {
    "jensen_shannon_to_uniform": Score(
        "Jensen-Shannon to uniform",
        jensen_shannon_to_uniform,
        lambda value, classes: 1.0 + value / largest_jensen_shannon_to_uniform(classes),
    ),
    "kullback_leibler_to_uniform": Score(
        "Kullback-Leibler to uniform", kullback_leibler_to_uniform, lambda value, classes: torch.exp(value)
    ),
    "maximum_softmax": Score(
        "maximum softmax", maximum_softmax, lambda value, classes: (1.0 + value) * (classes / (classes - 1))
    ),
    # Logits of 2^5 and more are rare; the sigmoid keeps their order well beyond.
    "maximum_logit": Score("maximum logit", maximum_logit, lambda value, classes: torch.sigmoid(value)),
    "entropy": Score("entropy", entropy, lambda value, classes: value / math.log(classes)),
    "energy": Score("energy", energy, lambda value, classes: torch.sigmoid(value)),
}


def _off_borders(score: Score) -> Score:
    def natural(logits: Tensor, temperature: float | Tensor) -> Tensor:
        return border_suppressed(score.natural(logits, temperature), logits)

    return replace(score, title=f"{score.title}, off borders", natural=natural)


SCORES |= {
    f"{name}_off_borders": _off_borders(SCORES[name])
    for name in ("jensen_shannon_to_uniform", "kullback_leibler_to_uniform", "maximum_logit")
}
