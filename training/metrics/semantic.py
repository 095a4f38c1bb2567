"""Closed-set segmentation quality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE


class ConfusionMatrix:
    """Pixels by true class (rows) and predicted class (columns), over any number of frames.

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([[0, 1, 1, 1]], np.uint8), np.array([[0, 0, 1, 255]], np.uint8))
    >>> confusion.iou().tolist(), confusion.mean_iou()
    ([0.5, 0.5], 0.5)
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, predicted: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Add one frame. Both (H, W) uint8; pixels labelled 255 are left out.

        Raises:
            ValueError: the sizes differ, or a label or predicted id belongs to no class.
        """
        if predicted.shape != labels.shape:
            raise ValueError(f"prediction is {predicted.shape}, labels are {labels.shape}; they must have one size")
        valid = labels != IGNORE
        true = labels[valid].astype(np.int64)
        guess = predicted[valid].astype(np.int64)
        for what, ids in (("label", true), ("predicted id", guess)):
            if ids.size and int(ids.max()) >= self.num_classes:
                raise ValueError(f"{what} {int(ids.max())} is not one of the {self.num_classes} classes")
        size = self.num_classes
        self.counts += np.bincount(true * size + guess, minlength=size * size).reshape(size, size)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the frames of another process."""
        self.counts += other.counts

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class: (K,) float64, NaN for a class neither labelled nor predicted."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN without any pixel."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
