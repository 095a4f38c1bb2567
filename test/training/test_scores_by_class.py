"""The scores of each class."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.scores_by_class import BINS, ScoresByClass


def test_scores_by_class_are_those_of_its_inlier_pixels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, BINS, (4, 30, 40)).astype(np.float32) / BINS
    labels = rng.choice(np.array([0, 1, 255], np.uint8), scores.shape)
    anomaly = rng.choice(np.array([0, 1, 255], np.uint8), scores.shape)
    metric = ScoresByClass(3)
    for frame in zip(scores, labels, anomaly, strict=True):
        metric.update(*frame)
    unknown = scores[anomaly == 1]
    [threshold] = np.quantile(unknown, [0.05], method="higher")
    for number in (0, 1):
        own = scores[(labels == number) & (anomaly == 0)]
        assert metric.medians()[number] == pytest.approx(np.median(own), abs=0.005)
        assert metric.marked(0.25)[number] == np.mean(own >= 0.25)
        assert metric.marked_at_recall()[number] == pytest.approx(np.mean(own >= threshold), abs=0.005)
    assert metric.medians()[3] == pytest.approx(np.median(unknown), abs=0.005)
    # The third class does not occur; a score of 1 is in the last bin.
    assert np.isnan([metric.medians()[2], metric.marked(0.5)[2], metric.marked_at_recall()[2]]).all()
    metric.update(np.ones((1, 1), np.float32), np.full((1, 1), 2, np.uint8), np.zeros((1, 1), np.uint8))
    assert metric.medians()[2] == 1 - 0.5 / BINS
    assert metric.marked_at_recall()[2] == 1.0


def test_scores_by_class_without_an_anomaly_have_no_recall_and_sizes_must_agree() -> None:
    metric = ScoresByClass(2)
    frame = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    metric.update(*frame)
    assert np.isnan(metric.marked_at_recall()).all()
    assert metric.marked(0.5)[0] == 0
    with pytest.raises(MetricInputError, match="differ in size"):
        metric.update(frame[0], frame[1][:1], frame[2])
