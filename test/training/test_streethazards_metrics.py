"""Means over images, and open-mIoU, against their definitions and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metric_frames import (
    exactly,
    frames_of,
    pooled,
    values,
)
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from training.data.labelled_frames import LabelledFrame
from training.evaluation.set_evaluation import SetEvaluation
from training.metrics.open_semantic import (
    OpenSemanticMetrics,
    Town,
    half_size,
    open_miou,
    threshold_at_recall,
)
from training.metrics.pixel_per_image import PerImagePixelMetrics
from training.metrics.score_counts import ScoreCounts


def per_image_by_definition(score: NDArray[Any], label: NDArray[np.uint8]) -> tuple[float, float, float]:
    positives, negatives = score[label == 1], score[label == 0]
    # No lower than where all anomalies are found; of equally good recalls the one of the lowest threshold.
    thresholds = sorted({*positives.tolist(), *negatives.tolist()})
    thresholds = [t for t in thresholds if t >= positives.min()]
    best = min(thresholds, key=lambda t: abs((positives >= t).mean() - 0.95))
    scores, labels = np.concatenate([positives, negatives]), [1] * positives.size + [0] * negatives.size
    return average_precision_score(labels, scores), float((negatives >= best).mean()), roc_auc_score(labels, scores)


@pytest.mark.parametrize("distribution", ["uniform", "ten values", "one value", "logits of both signs", "float16"])
def test_the_streethazards_figures_are_means_over_images(distribution: str) -> None:
    frames = frames_of(distribution, 2, 4, (20, 30))
    metrics = PerImagePixelMetrics()
    for frame in frames:
        metrics.update(*frame)
    wanted = np.mean([per_image_by_definition(*frame) for frame in frames], axis=0)
    assert values(metrics.compute()) == pytest.approx(tuple(wanted), abs=1e-9)


def test_the_recall_closest_to_95_percent_may_lie_below_it() -> None:
    # 16 anomalies: 15 of them are 0.9375, which is closer than 1.
    positives, negatives = np.linspace(0.5, 1, 16), np.array([0.52, 0.1])
    score = np.concatenate([positives, negatives])[None].astype(np.float32)
    label = np.array([[1] * 16 + [0] * 2], np.uint8)
    metrics = PerImagePixelMetrics()
    metrics.update(score, label)
    assert metrics.compute().fpr95 == 0.5
    assert exactly([(score, label)]).compute().fpr95 == 0.5
    # One more anomaly below both: still 0.9375 of 16, but the pooled protocol has to go on to 1.
    score[0, 0] = 0.01
    metrics = PerImagePixelMetrics()
    metrics.update(score, label)
    assert metrics.compute().fpr95 == 1.0
    assert exactly([(score, label)]).compute().fpr95 == 1.0


def test_images_with_one_kind_of_pixels_do_not_count_in_the_mean() -> None:
    frame = frames_of("uniform", 2, 1, (20, 30))[0]
    metrics = PerImagePixelMetrics()
    metrics.update(*frame)
    alone = metrics.compute()
    metrics.update(frame[0], np.where(frame[1] == 1, 255, frame[1]).astype(np.uint8))
    metrics.update(frame[0], np.where(frame[1] == 0, 255, frame[1]).astype(np.uint8))
    assert metrics.compute() == alone


def test_infinite_scores_are_tied_with_one_another() -> None:
    score = np.array([[np.inf, np.inf, -np.inf, -np.inf]], np.float32)
    metrics = PerImagePixelMetrics()
    metrics.update(score, np.array([[1, 0, 1, 0]], np.uint8))
    assert values(metrics.compute()) == pytest.approx((0.5, 1.0, 0.5))


def test_the_threshold_is_the_highest_score_with_a_recall_above_95_percent() -> None:
    for kind in ("uniform", "ten values"):
        frames = frames_of(kind, 7, 2)
        scores, labels = pooled(frames)
        counts = exactly(frames).counts
        positives = scores[labels == 1]
        wanted = max(t for t in positives.tolist() if (positives >= t).mean() > 0.95)
        assert threshold_at_recall(counts) == pytest.approx(wanted, abs=1e-7)
    # Exactly 95 % is not above it.
    counts = ScoreCounts()
    counts.update(np.arange(20, 0, -1, dtype=np.float32)[None] / 32, np.ones((1, 20), np.uint8))
    assert threshold_at_recall(counts) == 1 / 32


def test_open_miou_by_hand() -> None:
    anomaly = np.array([[0, 0, 0, 0, 1, 1, 255]], np.uint8)
    labels = np.array([[0, 0, 1, 1, 255, 255, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 1, 0, 1, 0]], np.uint8)
    score = np.array([[0.1, 0.1, 0.1, 0.9, 0.5, 0.9, 0.9]], np.float32)
    metrics = OpenSemanticMetrics(2, threshold=0.5)
    metrics.update(predicted, score, labels, anomaly)
    # Class 0: one hit, one taken for 1, one anomaly on the threshold taken for it. Class 1: one hit, one called an
    # anomaly, one of class 0 taken for it.
    np.testing.assert_allclose(metrics.iou(), [1 / 3, 1 / 3])
    assert metrics.compute() == pytest.approx(1 / 3)
    assert open_miou([Town(0.5, 30), Town(0.2, 10)]) == pytest.approx(0.425)


def test_each_town_takes_the_threshold_of_the_other_at_half_the_size() -> None:
    generator = np.random.default_rng(0)
    evaluation = SetEvaluation("streethazards_test", ["road", "car"], has_anomalies=True)
    frames: dict[str, list[tuple[LabelledFrame, NDArray[np.uint8], NDArray[np.float32]]]] = {"t5": [], "t6": []}
    for town, number, above in (("t5", 2, 0.2), ("t6", 1, 0.4)):
        for index in range(number):
            blocks = generator.choice([0, 1, 2], (4, 5))
            raw = np.kron(blocks, np.ones((4, 4))).astype(np.uint8)
            labels = np.where(raw == 2, 255, raw).astype(np.uint8)
            anomaly = (raw == 2).astype(np.uint8)
            score = (generator.random(raw.shape) * 0.5 + above * (raw == 2)).astype(np.float32)
            semantic = np.where(generator.random(raw.shape) < 0.2, 1 - raw.clip(0, 1), raw.clip(0, 1)).astype(np.uint8)
            frame = LabelledFrame(f"{town}_{index}", np.zeros((*raw.shape, 3), np.uint8), labels, anomaly)
            frames[town].append((frame, semantic, score))
            evaluation.update(frame, semantic, score, None)
    found = evaluation.results()["open_semantic"]
    evaluation.close()

    thresholds = {}
    for town, other in (("t5", "t6"), ("t6", "t5")):
        positives = np.concatenate(
            [small[half == 1] for small, half in (half_size(s, f.anomaly) for f, _, s in frames[other])]
        )
        thresholds[town] = max(t for t in positives.tolist() if (positives >= t).mean() > 0.95)
    assert thresholds["t5"] != thresholds["t6"]
    wanted = {}
    for town, members in frames.items():
        guess = np.concatenate([np.where(s > thresholds[town], 2, p).ravel() for _, p, s in members])
        true = np.concatenate([np.where(f.anomaly == 1, 2, f.labels).ravel() for f, _, _ in members])
        wanted[town] = np.mean(
            [((guess == c) & (true == c)).sum() / ((guess == c) | (true == c)).sum() for c in (0, 1)]
        )
    assert found["t5"] == pytest.approx(wanted["t5"])
    assert found["t6"] == pytest.approx(wanted["t6"])
    assert found["open_mIoU"] == pytest.approx((2 * wanted["t5"] + wanted["t6"]) / 3)


def test_half_size_averages_the_score_and_takes_every_other_label() -> None:
    score = np.array([[0.0, 0.4, 1.0, 1.0], [0.4, 0.8, 1.0, 1.0]], np.float32)
    small, label = half_size(score, np.array([[1, 0, 255, 0], [0, 0, 0, 0]], np.uint8))
    np.testing.assert_allclose(small, [[0.4, 1.0]], atol=1e-6)
    np.testing.assert_array_equal(label, [[1, 255]])
