"""Pixel-wise cross-entropy with class weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.data.label_set import IGNORE

ClassWeighting = Literal["none", "inverse_log"]


def class_weights(
    labels: Iterable[NDArray[np.uint8]], num_classes: int, weighting: ClassWeighting, offset: float
) -> Tensor:
    """Class weights from class frequencies, with mean 1 over the pixels.

    `inverse_log`: w_k = 1 / log(offset + share_k), as in ENet (Paszke et al., arXiv 1606.02147, offset 1.02). A larger
    offset makes the weights more equal.

    >>> labels = [np.array([[0, 0, 0, 1]], np.uint8)]
    >>> [round(weight, 2) for weight in class_weights(labels, 2, "inverse_log", 1.02).tolist()]
    [0.74, 1.77]

    Args:
        labels: label maps (H, W) uint8, 255 ignored.

    Returns:
        (K,) float32.
    """
    if weighting == "none":
        return torch.ones(num_classes)
    counts = np.zeros(num_classes, np.int64)
    for map_ in labels:
        counts += np.bincount(map_[map_ != IGNORE], minlength=num_classes)[:num_classes]
    share = counts / max(counts.sum(), 1)
    weights = 1.0 / np.log(offset + share)
    weights /= (weights * share).sum()
    return torch.tensor(weights, dtype=torch.float32)


def weight_of_valid_pixels(labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of the class weights of the pixels that have a class: (N, H, W) uint8 or int64, (K,) float -> () float."""
    target = labels.long()
    return weights[target[target != IGNORE]].sum()


def dense_cross_entropy(dense: Tensor, labels: Tensor, weights: Tensor, denominator: Tensor | None = None) -> Tensor:
    """Cross-entropy at the labels' resolution: L_cls of the method.

    >>> dense = torch.zeros(1, 4, 2, 2)  # uniform over four classes: log 4 nats at each valid pixel
    >>> labels = torch.tensor([[[0, 1], [3, 255]]])
    >>> round(dense_cross_entropy(dense, labels, torch.ones(4)).item(), 4)
    1.3863

    Args:
        dense: logits (N, K, H, W) float, at the labels' size.
        labels: (N, H, W) uint8 or int64, 255 ignored.
        weights: (K,) float.
        denominator: () float, divisor of the sum, for images that are a part of a batch. None takes the
            `weight_of_valid_pixels` of these images.

    Returns:
        () float: sum of the weighted losses divided by the denominator; 0 without a valid pixel.
    """
    total = functional.cross_entropy(dense.float(), labels.long(), weights, ignore_index=IGNORE, reduction="sum")
    return total / (weight_of_valid_pixels(labels, weights) if denominator is None else denominator).clamp(min=1e-6)
