"""Anomaly scores: pure functions of logits, higher where more anomalous.

`SCORES` holds them by name. Each has its natural value, as its paper defines it, and a monotone map of that value to
[0, 1]. A bundle's graph computes the mapped value. Both give the pixels the same order, and so the same metrics.

>>> certain, uniform = torch.tensor([20.0, 0, 0, 0]), torch.zeros(4)
>>> logits = torch.stack([certain, uniform], dim=1)[None, :, None]  # (1, 4 classes, 1, 2 pixels)
>>> SCORES["jensen_shannon_to_uniform"].in_unit_range(logits, temperature=1.0).flatten().round(decimals=3).tolist()
[0.0, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

BORDER_WIDTHS = (2, 1)
"""Pixels of the logits on either side of a border between classes, widest first. Jung et al. start with 8 pixels of the
frame, which are 2 of the logits, and halve the width."""

OPENING_SIDE = 3
"""Side of the window of `opened`, in pixels of the logits: the smallest that removes a line."""


def _shifted(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits / T minus their maximum, the exponentials of that, and their sum over the classes.

    Maximum, exponential and sum are written out: in ONNX Runtime, `log_softmax` over the channels takes three times as
    long. max() also returns unused indices, but amax() needs opset 18.
    """
    scaled = logits / temperature
    shifted = scaled - scaled.max(dim=1, keepdim=True).values
    exponentials = torch.exp(shifted)
    return shifted, exponentials, exponentials.sum(dim=1, keepdim=True)


def maximum_softmax(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-max_k p_k, p = softmax(logits / T) (Hendrycks and Gimpel, arXiv 1610.02136).

    (N, K, h, w) float -> (N, 1, h, w) float in [-1, -1/K].

    >>> round(maximum_softmax(torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1, 1)).item(), 4)
    -0.7
    """
    # The largest exponential is exp(0) = 1. Not written as 1 / total: some versions of TensorRT's parser do not read
    # the Reciprocal that it becomes.
    return -torch.exp(-torch.log(_shifted(logits, temperature)[2]))


def maximum_logit(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-max_k logit_k / T (Hendrycks et al., arXiv 1911.11132).

    (N, K, h, w) float -> (N, 1, h, w) float. T does not change the order.

    >>> maximum_logit(torch.tensor([3.0, -1.0, 2.0]).view(1, 3, 1, 1)).item()
    -3.0
    """
    return -(logits / temperature).max(dim=1, keepdim=True).values


def entropy(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """H(p) = -sum_k p_k log p_k in nats, p = softmax(logits / T) (Chan et al., arXiv 2012.06575).

    (N, K, h, w) float -> (N, 1, h, w) float in [0, log K].

    >>> round(entropy(torch.zeros(1, 8, 1, 1)).item() / math.log(8), 4)
    1.0
    """
    shifted, exponentials, total = _shifted(logits, temperature)
    return torch.log(total) - (exponentials / total * shifted).sum(dim=1, keepdim=True)


def energy(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-T log sum_k exp(logit_k / T) (Liu et al., arXiv 2010.03759).

    (N, K, h, w) float -> (N, 1, h, w) float.

    >>> round(energy(torch.zeros(1, 8, 1, 1)).item(), 4), round(math.log(8), 4)
    (-2.0794, 2.0794)
    """
    total = _shifted(logits, temperature)[2]
    return -logits.max(dim=1, keepdim=True).values - temperature * torch.log(total)


def kullback_leibler_to_uniform(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-KL(U || p) = log K + (1/K) sum_k log p_k in nats, p = softmax(logits / T).

    Outlier exposure trains it towards zero (Hendrycks et al., arXiv 1812.04606).
    (N, K, h, w) float -> (N, 1, h, w) float, at most 0.
    """
    num_classes = int(logits.shape[1])  # a Python number: a tensor's size would become a node of the exported graph
    shifted, _, total = _shifted(logits, temperature)
    return math.log(num_classes) + shifted.sum(dim=1, keepdim=True) / num_classes - torch.log(total)


def jensen_shannon_to_uniform(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """-JSD(U, p) in nats, p = softmax(logits / T) (Grcic et al., arXiv 2112.12833).

    JSD(U, p) = H(m) - H(U)/2 - H(p)/2 with m = (U + p)/2.
    (N, K, h, w) float -> (N, 1, h, w) float in (-log 2, 0].

    >>> uniform, certain = torch.zeros(1, 19, 1, 1), torch.full((1, 19, 1, 1), -50.0)
    >>> certain[0, 3] = 50.0
    >>> abs(jensen_shannon_to_uniform(uniform).item()) < 1e-6
    True
    >>> abs(jensen_shannon_to_uniform(certain).item() + largest_jensen_shannon_to_uniform(19)) < 1e-6
    True
    """
    num_classes = int(logits.shape[1])
    shifted, exponentials, total = _shifted(logits, temperature)
    probabilities = exponentials / total
    own = torch.log(total) - (probabilities * shifted).sum(dim=1, keepdim=True)
    mean = 0.5 * probabilities + 0.5 / num_classes
    # Logarithms are taken of p and m only, and m is never 0.
    of_mean = -(mean * torch.log(mean)).sum(dim=1, keepdim=True)
    return 0.5 * own + 0.5 * math.log(num_classes) - of_mean


def largest_jensen_shannon_to_uniform(num_classes: int) -> float:
    """JSD(U, p) of a one-hot p in nats: the largest value for this number of classes."""
    peak = (1 + 1 / num_classes) / 2
    rest = 1 / (2 * num_classes)
    entropy_of_mean = -peak * math.log(peak) - (num_classes - 1) * rest * math.log(rest)
    return entropy_of_mean - 0.5 * math.log(num_classes)


def border_suppressed(value: Tensor, logits: Tensor) -> Tensor:
    """A score with the values at borders between predicted classes replaced by those next to the border.

    Networks are unsure at borders, where most scores have their false alarms. This is the boundary suppression of
    Standardized Max Logits (Jung et al., arXiv 2107.11264). For each of `BORDER_WIDTHS`, a pixel within that distance
    of another class takes the mean of its eight neighbours that are farther away. Without such a neighbour it keeps its
    value. The next, smaller width continues inwards. Their standardisation by class is left out: it needs statistics
    of the training frames.

    It uses poolings of constant size only, so that the graph needs no Shape nodes.

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
        # Both means are over the same nine places; the pixel itself and places outside the map count with 0.
        share = functional.avg_pool2d(inside, 3, stride=1, padding=1)
        mean = functional.avg_pool2d(value * inside, 3, stride=1, padding=1) / share.clamp(min=1 / 9)
        replaced = border * (9.0 * share).clamp(0.0, 1.0)
        value = (1.0 - replaced) * value + replaced * mean
    return value


def opened(value: Tensor) -> Tensor:
    """The grey-scale opening of a score: the minimum over `OPENING_SIDE` x `OPENING_SIDE` pixels, then the maximum.

    Networks are unsure along borders between classes, in lines of one or two pixels of the logits. Such lines vanish;
    what is at least `OPENING_SIDE` pixels wide and high keeps its values and its outline (Serra, Image Analysis and
    Mathematical Morphology, 1982). An opening commutes with any monotone map.

    (N, 1, h, w) float -> (N, 1, h, w) float, nowhere above `value`. Beyond the edges lie no values.

    >>> line, block = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    >>> line[..., 2], block[..., 1:4, 1:4] = 1.0, 1.0
    >>> opened(line).max().item(), opened(block).equal(block)
    (0.0, True)
    """
    lowest = -functional.max_pool2d(-value, OPENING_SIDE, stride=1, padding=OPENING_SIDE // 2)
    return functional.max_pool2d(lowest, OPENING_SIDE, stride=1, padding=OPENING_SIDE // 2)


@dataclass(frozen=True)
class Score:
    """A score and its map to [0, 1].

    Attributes:
        title: its name in tables.
        natural: (logits (N, K, h, w), T) -> (N, 1, h, w), higher where more anomalous.
        unit: (natural value, K) -> value in [0, 1], monotone. It is 1 at a uniform distribution for the scores of
            probabilities.
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
    # Logits above 2^5 are rare; the sigmoid keeps their order far beyond.
    "maximum_logit": Score("maximum logit", maximum_logit, lambda value, classes: torch.sigmoid(value)),
    "entropy": Score("entropy", entropy, lambda value, classes: value / math.log(classes)),
    "energy": Score("energy", energy, lambda value, classes: torch.sigmoid(value)),
}


def _off_borders(score: Score) -> Score:
    def natural(logits: Tensor, temperature: float | Tensor) -> Tensor:
        return border_suppressed(score.natural(logits, temperature), logits)

    return replace(score, title=f"{score.title}, off borders", natural=natural)


def _opened(score: Score) -> Score:
    def natural(logits: Tensor, temperature: float | Tensor) -> Tensor:
        return opened(score.natural(logits, temperature))

    return replace(score, title=f"{score.title}, opened", natural=natural)


SCORES |= {f"{name}_opened": _opened(score) for name, score in SCORES.items()} | {
    f"{name}_off_borders": _off_borders(SCORES[name])
    for name in ("jensen_shannon_to_uniform", "kullback_leibler_to_uniform", "maximum_logit")
}
