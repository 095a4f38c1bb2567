"""Scores of many distributions with labels, and what scikit-learn says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from training.metrics.component_smiyc import (
    ComponentSizes,
    SmiycComponentMetrics,
)
from training.metrics.pixel_exact import ExactPixelMetrics, PixelFigures
from training.metrics.pixel_per_image import PerImagePixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics

Frame = tuple[NDArray[Any], NDArray[np.uint8]]
"""Scores and labels of one frame, (H, W)."""


def pooled(frames: Iterable[Frame]) -> Frame:
    """The scores and labels of all pixels that count, each (n,)."""
    scores, labels = zip(*((score[label != 255], label[label != 255]) for score, label in frames), strict=True)
    return np.concatenate(scores), np.concatenate(labels)


def by_scikit_learn(frames: Iterable[Frame]) -> tuple[float, float, float]:
    """AP, FPR95, AUROC."""
    scores, labels = pooled(frames)
    # scikit-learn refuses infinities; only the order counts.
    finite = np.nan_to_num(scores.astype(np.float64), posinf=1e300, neginf=-1e300)
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, finite, drop_intermediate=False)
    fpr95 = false_positive_rate[np.argmax(true_positive_rate >= 0.95)]
    return average_precision_score(labels, finite), fpr95, roc_auc_score(labels, finite)


def exactly(frames: Iterable[Frame]) -> ExactPixelMetrics:
    metrics = ExactPixelMetrics()
    for frame in frames:
        metrics.update(*frame)
    return metrics


def values(figures: PixelFigures) -> tuple[float, float, float]:
    return figures.ap, figures.fpr95, figures.auroc


def labels_of(generator: np.random.Generator, shape: tuple[int, int], positives: float = 0.1) -> NDArray[np.uint8]:
    """Inliers, anomalies, and a fifth that does not count."""
    return generator.choice([0, 1, 255], shape, p=[0.8 - positives, positives, 0.2]).astype(np.uint8)


def with_mixed_zeros(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every other small value is 0.0, the rest of them -0.0."""
    signed = np.where(np.arange(u.size).reshape(u.shape) % 2, 0.0, -0.0)
    return np.where(u < 0.5, signed, u - 0.5)


DISTRIBUTIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[Any]]] = {
    # From numbers that are uniform in (0, 1), larger ones at anomalies.
    "uniform": lambda u: u.astype(np.float32),
    "close to zero and one": lambda u: (np.sign(u - 0.5) * np.abs(2 * u - 1) ** 0.1 / 2 + 0.5).astype(np.float32),
    "skewed to zero": lambda u: (u**3).astype(np.float32),
    "within 1e-5 of one": lambda u: (1 - 1e-5 * (1 - u)).astype(np.float32),
    "float16 steps below one": lambda u: (1 - 2.0**-24 * np.floor(300 * (1 - u))).astype(np.float32),
    "ten values": lambda u: (np.round(10 * u) / 10).astype(np.float32),
    "one value": lambda u: np.full(u.shape, 0.3, np.float32),
    "float16": lambda u: u.astype(np.float16),
    "float64": lambda u: np.round(u, 4),
    "logits of both signs": lambda u: np.log(u / (1 - u)).astype(np.float32),
    "negative logits": lambda u: (np.log(u) * 8 - 1).astype(np.float32),
    "positive logits": lambda u: (1 - np.log(1 - u) * 8).astype(np.float32),
    "negative divergences": lambda u: (-0.54 * (1 - u) ** 4).astype(np.float32),
    "zeros of both signs": lambda u: with_mixed_zeros(u).astype(np.float32),
    "infinities": lambda u: np.where(u > 0.97, np.inf, np.where(u < 0.1, -np.inf, u)).astype(np.float32),
}


def frames_of(distribution: str, seed: int, number: int = 3, shape: tuple[int, int] = (60, 80)) -> list[Frame]:
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        label = labels_of(generator, shape)
        u = generator.random(shape) ** np.where(label == 1, 0.4, 1.0)
        frames.append((DISTRIBUTIONS[distribution](np.clip(u, 1e-7, 1 - 1e-7)), label))
    return frames


STREAMING: dict[str, Callable[[], Any]] = {
    "exact": ExactPixelMetrics,
    "official": SmiycPixelMetrics,
    "per image": PerImagePixelMetrics,
    "component": lambda: SmiycComponentMetrics(0.6, ComponentSizes(4, 3)),
}
"""Metrics of anomaly pixels that take one frame after the other."""
