"""The temperature of a bundle's score, fitted so that the class probabilities match the labels best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import Bundle
from training.bundles.runner import BundleRunner
from training.data.label_set import IGNORE
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.metrics.calibration_error import CalibrationError

TEMPERATURES = (0.05, 20.0)
"""Range of the search."""

MOST_PIXELS = 2_000_000


@dataclass(frozen=True)
class LabelledLogits:
    """Pixels for fitting a temperature: logits (n, K) float32 and labels (n,) int64."""

    logits: torch.Tensor
    labels: torch.Tensor

    def cross_entropy(self, temperature: float) -> float:
        """Mean cross-entropy in nats of softmax(logits / T)."""
        return float(functional.cross_entropy(self.logits / temperature, self.labels))

    def calibration_error(self, temperature: float) -> float:
        """Expected calibration error of the largest probability, as a fraction."""
        confidence, predicted = torch.softmax(self.logits / temperature, dim=1).max(dim=1)
        metric = CalibrationError()
        ids = predicted.numpy().astype(np.uint8)
        metric.update(confidence.clamp(0, 1).numpy(), ids, self.labels.numpy().astype(np.uint8))
        return metric.compute()


def labelled_logits(bundle: Bundle, frames: LabelledFrames) -> LabelledLogits:
    """Logits at their own resolution, with the label at the same place. At most `MOST_PIXELS`, evenly over the frames.

    Raises:
        ValueError: there is no labelled pixel.
    """
    runner = BundleRunner(bundle, "onnxruntime")
    generator = np.random.default_rng(0)
    quota = max(MOST_PIXELS // len(frames), 1)
    logits, labels = [], []
    for frame in tracked(frames, "logits"):
        runner.perceive(frame.image)
        found = runner.logits
        size = (found.shape[2], found.shape[1])
        small = cv2.resize(frame.labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
        valid = np.flatnonzero(small.ravel() != IGNORE)
        chosen = generator.permutation(valid)[:quota]
        logits.append(found.reshape(len(found), -1)[:, chosen].T.copy())
        labels.append(small.ravel()[chosen].astype(np.int64))
    runner.close()
    if not sum(part.size for part in labels):
        raise ValueError("none of the frames has a labelled pixel")
    return LabelledLogits(torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(labels)))


def best_temperature(cross_entropy: Callable[[float], float]) -> float:
    """The T in `TEMPERATURES` with the smallest cross-entropy, to four digits, by golden-section search over log T.

    >>> best_temperature(lambda t: (t - 2.5) ** 2)
    2.5

    Raises:
        ValueError: T is at an end of the range.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low, high = (math.log(t) for t in TEMPERATURES)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = cross_entropy(math.exp(left)), cross_entropy(math.exp(right))
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = cross_entropy(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = cross_entropy(math.exp(right))
    found = float(f"{math.exp((low + high) / 2):.4g}")
    if not 1.01 * TEMPERATURES[0] < found < 0.99 * TEMPERATURES[1]:
        raise ValueError(
            f"the cross-entropy is smallest at an end of the range {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}; the "
            "labels do not fit this bundle (--temperature sets a temperature without fitting)"
        )
    return found
