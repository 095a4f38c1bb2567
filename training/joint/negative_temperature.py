"""The temperature of a bundle's score at which synthetic anomalies stand out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
import torch

from ros_ood_perception.bundle.model_bundle import Bundle
from training.bundles.runner import BundleRunner
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.joint.validation import with_pasted_crop
from training.metrics.pixel_exact import ExactPixelMetrics
from training.segmenter.mask_scores import ALL_SCORES

NEGATIVE_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)
"""Those that are tried on synthetic anomalies, in the order in which probabilities become less certain."""

NEGATIVE_MARGIN = 0.01
"""FPR95 that a lower temperature may have above the best one. Higher ones flatten the score for no gain."""

MOST_NEGATIVE_FRAMES = 200


def temperatures_on_negatives(bundle: Bundle, frames: LabelledFrames) -> dict[float, float]:
    """FPR95 of the bundle's score at each of `NEGATIVE_TEMPERATURES`, on frames with pasted crops of other frames.

    At most `MOST_NEGATIVE_FRAMES`, evenly over the frames, at the resolution of the logits.

    Raises:
        ValueError: fewer than two frames, or no known pixel beside the crops.
    """
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frame(s): a crop of one frame is pasted into another, so two are needed")
    runner = BundleRunner(bundle, "onnxruntime")
    name = bundle.description.score.name
    score = ALL_SCORES[name]
    metrics = {temperature: ExactPixelMetrics() for temperature in NEGATIVE_TEMPERATURES}
    count = min(len(frames), MOST_NEGATIVE_FRAMES)
    for index in tracked(np.linspace(0, len(frames) - 1, count).round().astype(int).tolist(), "pasted crops"):
        image, anomaly = with_pasted_crop(frames, index)
        runner.perceive(image)
        values = torch.from_numpy(runner.values(name))[None]
        size = (values.shape[3], values.shape[2])
        small = cv2.resize(anomaly, size, interpolation=cv2.INTER_NEAREST_EXACT)
        for temperature, metric in metrics.items():
            metric.update(score.in_unit_range(values, temperature)[0, 0].numpy(), small)
    runner.close()
    found = {temperature: metric.compute().fpr95 for temperature, metric in metrics.items()}
    if any(math.isnan(rate) for rate in found.values()):
        raise ValueError("none of the frames has a known pixel beside the pasted crop")
    return found


def lowest_of_the_best(rates: Mapping[float, float]) -> float:
    """The lowest temperature whose rate is at most `NEGATIVE_MARGIN` above the smallest.

    >>> lowest_of_the_best({1.0: 0.32, 2.0: 0.226, 3.0: 0.22, 4.5: 0.219})
    2.0
    """
    return min(temperature for temperature, rate in rates.items() if rate <= min(rates.values()) + NEGATIVE_MARGIN)
