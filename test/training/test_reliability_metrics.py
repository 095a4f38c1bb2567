"""AUTC, AUPIMO and the score as a monitor of errors: by hand, and against their definitions written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from training.evaluation.smiyc_scores import submitted
from training.metrics import score_counts
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.error_monitor import ErrorMonitorMetrics
from training.metrics.per_image_overlap import (
    HIGHEST_FPR,
    LOWEST_FPR,
    PerImageOverlap,
    PerImageOverlapFigures,
    SharedFalsePositiveRate,
)
from training.metrics.threshold_curves import ThresholdCurveFigures, ThresholdCurveMetrics

Frame = tuple[NDArray[Any], NDArray[np.uint8]]


def row(*values: Any, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.array([values], dtype)


# AUTC


def autc_of(*frames: Frame) -> ThresholdCurveFigures:
    metric = ThresholdCurveMetrics()
    for frame in frames:
        metric.update(*frame)
    return metric.compute()


def test_autc_by_hand() -> None:
    # FPR is 1 up to 0.2, 1/2 up to 0.4, then 0: area 0.3. FNR is 0 up to 0.7, then 1: area 0.3. Void counts nowhere.
    score = row(0.2, 0.4, 0.7, 0.99, dtype=np.float32)
    found = autc_of((score, row(0, 0, 1, 255)))
    assert found.aufpr == pytest.approx(0.3)
    assert found.aufnr == pytest.approx(0.3)
    assert found.autc == pytest.approx(0.3)


@pytest.mark.parametrize(("inlier", "anomaly", "expected"), [(0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.3, 0.3, 0.5)])
def test_autc_is_0_where_the_kinds_are_apart_and_a_half_where_they_are_one(
    inlier: float, anomaly: float, expected: float
) -> None:
    found = autc_of((row(inlier, inlier, anomaly, dtype=np.float64), row(0, 0, 1)))
    assert found.autc == pytest.approx(expected)


def test_autc_tells_scores_apart_that_auroc_takes_for_equal() -> None:
    labels = row(0, 0, 1, 1)
    apart = autc_of((row(0.0, 0.1, 0.9, 1.0, dtype=np.float32), labels))
    close = autc_of((row(0.50, 0.51, 0.52, 0.53, dtype=np.float32), labels))
    assert apart.autc == pytest.approx(0.05)
    assert close.autc == pytest.approx(0.49)


def test_autc_is_the_area_under_the_rates_of_all_thresholds() -> None:
    generator = np.random.default_rng(0)
    score = generator.random((20, 30))
    labels = generator.choice(np.array([0, 1, 255], np.uint8), (20, 30))
    steps = (np.arange(20000) + 0.5) / 20000
    inliers, anomalies = np.sort(score[labels == 0]), np.sort(score[labels == 1])
    false = 1 - np.searchsorted(inliers, steps) / inliers.size
    missed = np.searchsorted(anomalies, steps) / anomalies.size
    found = autc_of((score, labels))
    assert found.aufpr == pytest.approx(false.mean(), abs=1e-4)
    assert found.aufnr == pytest.approx(missed.mean(), abs=1e-4)


def test_autc_of_processes_together_and_of_one_kind_alone() -> None:
    first, second = ThresholdCurveMetrics(), ThresholdCurveMetrics()
    first.update(row(0.2, dtype=np.float32), row(0))
    assert math.isnan(first.compute().autc)
    assert first.compute().aufpr == pytest.approx(0.2)
    second.update(row(0.4, 0.7, dtype=np.float32), row(0, 1))
    first.merge(second)
    assert first.compute().autc == pytest.approx(0.3)
    assert math.isnan(ThresholdCurveMetrics().compute().aufnr)


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_autc_is_of_scores_in_0_to_1_alone(value: float) -> None:
    with pytest.raises(MetricInputError, match=r"must be in \[0, 1\]"):
        autc_of((row(value, dtype=np.float32), row(0)))
    assert math.isnan(autc_of((row(value, dtype=np.float32), row(255))).aufpr)


# AUPIMO


def aupimo_of(*frames: Frame) -> PerImageOverlapFigures:
    shared = SharedFalsePositiveRate()
    for frame in frames:
        shared.update(*frame)
    overlap = PerImageOverlap(shared)
    for frame in frames:
        overlap.update(*frame)
    return overlap.compute()


def a_normal_image(pixels: int, *highest: float) -> Frame:
    score = np.full((1, pixels), -5, np.float16)
    score[0, : len(highest)] = highest
    return score, np.zeros((1, pixels), np.uint8)


def test_aupimo_by_hand() -> None:
    # Of 100,000 normal pixels one scores 3, three score 2, six score 1. A rate below 1e-5 allows thresholds above 3;
    # from 1e-5 (one pixel) on above 2; from 4e-5 on above 1; at 1e-4, the end, all above -5.
    normal = a_normal_image(100_000, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1)
    # Anomalies: above 3 none, above 2 one of four (2.5), above 1 three of four.
    anomalous = (row(2.5, 1.5, 1.25, -7, -5, dtype=np.float16), row(1, 1, 1, 1, 0))
    expected = (math.log(4) * 0.25 + math.log(2.5) * 0.75) / math.log(10)
    found = aupimo_of(normal, anomalous)
    assert found.aupimo == pytest.approx(expected)
    assert found.images == 1


def test_a_score_on_the_threshold_is_marked_and_ties_with_false_alarms() -> None:
    # From 1e-5 on the threshold lies above 2: an anomaly of 2 itself is found with the two pixels there, at 3e-5.
    normal = a_normal_image(100_000, 3, 2, 2)
    found = aupimo_of(normal, (row(2, dtype=np.float16), row(1)))
    assert found.aupimo == pytest.approx(math.log(1e-4 / 3e-5) / math.log(10))


def test_aupimo_takes_each_image_by_itself_and_says_what_nine_in_ten_reach() -> None:
    normal = a_normal_image(1_000)  # one false alarm is more than 1e-4
    found_all = (row(1, 1, 1, dtype=np.float16), row(1, 1, 1))
    found_none = (np.full((50, 50), -6, np.float16), np.ones((50, 50), np.uint8))
    found = aupimo_of(normal, found_all, found_none)
    assert found.aupimo == pytest.approx(0.5)
    assert found.lowest_tenth == 0
    assert aupimo_of(normal, *[found_all] * 19, found_none).lowest_tenth == pytest.approx(1)


def test_false_alarms_are_those_of_images_without_anomalies_where_there_are_any() -> None:
    # An inlier beside the anomaly scores higher than it: with a normal image it does not matter.
    anomalous = (row(4, 5, dtype=np.float16), row(1, 0))
    shared = SharedFalsePositiveRate()
    shared.update(*anomalous)
    assert not shared.of_normal_images
    assert aupimo_of(anomalous).aupimo == 0
    assert aupimo_of(anomalous, a_normal_image(10)).aupimo == pytest.approx(1)
    shared.update(*a_normal_image(10))
    assert shared.of_normal_images


def by_definition(frames: list[Frame], steps: int = 4000) -> float:
    """Mean recall over rates spread evenly in the logarithm, each with the lowest threshold that keeps to it."""
    normal = [score[label == 0].astype(np.float64) for score, label in frames if not (label == 1).any()]
    thresholds = np.unique(np.concatenate([*normal, [np.inf]]))
    above = [np.nextafter(t, np.inf) for t in thresholds]
    candidates = np.unique(np.concatenate([thresholds, above]))
    rates = np.array([np.mean([(values >= t).mean() for values in normal]) for t in candidates])
    recalls = []
    for rate in np.geomspace(LOWEST_FPR, HIGHEST_FPR, steps + 1)[:-1] * (HIGHEST_FPR / LOWEST_FPR) ** (0.5 / steps):
        threshold = candidates[np.argmax(rates <= rate)]
        recalls.append([(s[m == 1] >= threshold).mean() for s, m in frames if (m == 1).any()])
    return float(np.mean(recalls))


def test_aupimo_is_its_definition_on_scores_as_they_are_handed_in() -> None:
    generator = np.random.default_rng(5)
    frames: list[Frame] = []
    for index in range(6):
        score = generator.beta(2, 5, (120, 200)).astype(np.float32)
        label = np.zeros(score.shape, np.uint8)
        if index % 2:
            label[40:70, 100:150] = 1
            score[40:70, 100:150] = generator.beta(8, 3, (30, 50))
            label[:20] = 255
        frames.append((submitted(score), label))
    assert aupimo_of(*frames).aupimo == pytest.approx(by_definition(frames), abs=2e-3)


def test_aupimo_of_processes_together_and_of_nothing() -> None:
    first, second = SharedFalsePositiveRate(), SharedFalsePositiveRate()
    first.update(*a_normal_image(100_000, 3))
    second.update(*a_normal_image(200_000, 2, 2))
    alone = SharedFalsePositiveRate()
    for frame in (a_normal_image(100_000, 3), a_normal_image(200_000, 2, 2)):
        alone.update(*frame)
    first.merge(second)
    together, expected = first.rates(), alone.rates()
    assert together is not None
    assert expected is not None
    np.testing.assert_allclose(together, expected)
    assert math.isnan(aupimo_of().aupimo)
    assert math.isnan(aupimo_of((row(1, dtype=np.float16), row(1))).aupimo)
    assert math.isnan(aupimo_of(a_normal_image(10)).aupimo)
    with pytest.raises(MetricInputError, match="must be float16"):
        first.update(row(1, dtype=np.float32), row(0))


# The score as a monitor of errors


def monitored(*frames: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]) -> ErrorMonitorMetrics:
    metric = ErrorMonitorMetrics()
    for frame in frames:
        metric.update(*frame)
    return metric


def test_the_monitor_by_hand() -> None:
    # In the order of the scores: right, wrong, right, wrong. Risks while they are kept: 0, 1/2, 1/3, 2/4.
    score = row(0.1, 0.2, 0.3, 0.9, 0.95, dtype=np.float32)
    found = monitored((score, row(3, 4, 5, 6, 7), row(3, 0, 5, 1, 255), row(0, 0, 0, 0, 0))).compute()
    assert found.error_rate == 0.5
    assert found.auroc == pytest.approx(0.75)
    assert found.fpr95 == pytest.approx(0.5)
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    # A perfect order has the risks 0, 0, 1/3, 2/4.
    assert found.excess_aurc == pytest.approx((1 / 2) / 4)


def test_an_anomaly_is_wrong_whatever_is_predicted_and_pixels_without_a_label_do_not_count() -> None:
    score = row(0.1, 0.9, 0.5, dtype=np.float32)
    found = monitored((score, row(2, 2, 2), row(2, 255, 255), row(0, 1, 255))).compute()
    assert found.error_rate == 0.5
    assert found.auroc == 1


@pytest.mark.parametrize("binned", [False, True])
def test_the_monitor_is_its_definition_with_ties(binned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if binned:
        monkeypatch.setattr(score_counts, "SORTED_PIXELS", 100)
    generator = np.random.default_rng(6)
    score = np.round(generator.random((30, 40)), 2).astype(np.float32)
    labels = generator.integers(0, 3, (30, 40)).astype(np.uint8)
    wrong = generator.random((30, 40)) < score * 0.6
    predicted = np.where(wrong, (labels + 1) % 3, labels).astype(np.uint8)
    inlier = np.zeros_like(labels)
    halves = [tuple(part[h] for part in (score, predicted, labels, inlier)) for h in (slice(0, 9), slice(9, 30))]
    first, second = (monitored(half) for half in halves)  # type: ignore[arg-type]
    first.merge(second)
    found = first.compute()
    # In the mean over the orders of tied pixels each of them has its bin's share of errors.
    values = score.ravel().astype(np.float64)
    share = {value: wrong.ravel()[values == value].mean() for value in np.unique(values)}
    expected = np.cumsum([share[value] for value in np.sort(values)]) / np.arange(1, values.size + 1)
    assert found.aurc == pytest.approx(expected.mean(), rel=1e-9)
    assert found.auroc == pytest.approx(roc_auc_score(wrong.ravel(), values), rel=1e-9)
    perfect = np.cumsum(np.sort(wrong.ravel())) / np.arange(1, values.size + 1)
    assert found.excess_aurc == pytest.approx((expected - perfect).mean(), rel=1e-9)
    assert found.error_rate == pytest.approx(wrong.mean())


def test_ties_count_as_the_mean_of_their_orders() -> None:
    labels = row(0, 0, 0)
    for predicted in itertools.permutations([0, 0, 1]):
        found = monitored((np.full((1, 3), 0.5, np.float32), row(*predicted), labels, np.zeros_like(labels))).compute()
        assert found.aurc == pytest.approx(1 / 3)
        assert found.auroc == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_network_without_errors_or_without_anything_right_has_no_auroc(share: float) -> None:
    predicted = np.full((4, 5), 1 if share else 0, np.uint8)
    labels = np.zeros((4, 5), np.uint8)
    found = monitored((np.random.default_rng(0).random((4, 5)), predicted, labels, labels)).compute()
    assert math.isnan(found.auroc)
    assert found.aurc == found.error_rate == share
    assert found.excess_aurc == 0


def test_no_pixel_gives_no_figure_and_sizes_must_agree() -> None:
    assert math.isnan(ErrorMonitorMetrics().compute().aurc)
    with pytest.raises(MetricInputError, match="differ in size"):
        monitored((np.zeros((2, 2)), row(0), row(0), row(0)))
