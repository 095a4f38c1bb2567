"""Exact AP, FPR95 and AUROC: against scikit-learn on the pooled pixels, over processes, and in bounded memory."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_frames import (
    DISTRIBUTIONS,
    STREAMING,
    Frame,
    by_scikit_learn,
    exactly,
    frames_of,
    pooled,
    values,
)

from training.metrics import score_counts
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics
from training.metrics.score_counts import ScoreCounts


@pytest.fixture
def binned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pixel is counted in bins, as it is where there are millions of them."""
    monkeypatch.setattr(score_counts, "SORTED_PIXELS", -1)


@pytest.fixture(params=["sorted", "binned", "sorted, then binned"])
def counting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of counting, and the change from one to the other after some frames."""
    limit = {"sorted": 1 << 22, "binned": -1, "sorted, then binned": 6000}[request.param]
    monkeypatch.setattr(score_counts, "SORTED_PIXELS", limit)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_exact_figures_are_those_of_scikit_learn_on_the_pooled_pixels(distribution: str, counting: None) -> None:
    for seed in range(3):
        frames = frames_of(distribution, seed)
        assert values(exactly(frames).compute()) == pytest.approx(by_scikit_learn(frames), abs=1e-6)


@pytest.mark.parametrize("offset", [0.01, 1.0, 8.0, 100.0])
def test_scores_that_differ_in_their_last_bits_only_are_told_apart_at_any_offset(offset: float, counting: None) -> None:
    steps = np.random.default_rng(0).integers(0, 60, (40, 50))
    score = np.float32(offset) + steps.astype(np.float32) * np.spacing(np.float32(offset))
    label = (np.random.default_rng(1).random((40, 50)) < steps / 120).astype(np.uint8)
    assert values(exactly([(score, label)]).compute()) == pytest.approx(by_scikit_learn([(score, label)]), abs=1e-6)


def test_processes_whose_scores_crowd_in_other_places_agree_on_what_is_a_tie(binned: None) -> None:
    near_eight = [(np.float32(8) + np.round(s, 1) * np.float32(1e-4), label) for s, label in frames_of("uniform", 0)]
    low = [(np.round(s, 1) / np.float32(10), label) for s, label in frames_of("uniform", 1)]
    metrics = exactly([*near_eight[:1], *low[:1]])
    metrics.merge(exactly(low[1:]))
    metrics.merge(exactly(near_eight[1:]))
    assert values(metrics.compute()) == pytest.approx(by_scikit_learn([*near_eight, *low]), abs=1e-6)


pixels = st.lists(st.tuples(st.integers(-40, 40), st.sampled_from([0, 0, 1, 255])), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.lists(pixels, min_size=1, max_size=4), st.sampled_from([np.float16, np.float32, np.float64]))
def test_few_pixels_with_many_ties_are_measured_exactly_and_in_any_order(
    frames: list[list[tuple[int, int]]], dtype: Any
) -> None:
    arrays: list[Frame] = [
        (np.array([[s for s, _ in frame]], dtype) / dtype(32), np.array([[k for _, k in frame]], np.uint8))
        for frame in frames
    ]
    found = values(exactly(arrays).compute())
    assert found == pytest.approx(values(exactly(arrays[::-1]).compute()), abs=1e-12, nan_ok=True)
    kinds = set(pooled(arrays)[1].tolist())
    if kinds == {0, 1}:
        assert found == pytest.approx(by_scikit_learn(arrays), abs=1e-12)
    else:
        assert math.isnan(found[1])
        assert math.isnan(found[2])
        assert found[0] == 1 if kinds == {1} else math.isnan(found[0])


def test_the_area_and_average_precision_by_hand() -> None:
    # Highest first: 1, 0, then 1 and 0 tied, 0.
    score = np.array([[0.9, 0.8, 0.5, 0.5, 0.1]], np.float32)
    found = exactly([(score, np.array([[1, 0, 1, 0, 0]], np.uint8))]).compute()
    assert found.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert found.fpr95 == pytest.approx(2 / 3)
    assert found.auroc == pytest.approx((3 + 1.5) / 6)


@pytest.mark.parametrize("metric", [ExactPixelMetrics, SmiycPixelMetrics])
@pytest.mark.parametrize("lowest", [0.1, 0.88], ids=["far below", "close"])
def test_a_recall_of_exactly_95_percent_is_enough(metric: Any, lowest: float, counting: None) -> None:
    # 19 of 20 anomalies above all inliers but one, the last one below them.
    score = np.array([[0.95] + [0.9] * 19 + [lowest + 0.01, lowest]], np.float32)
    label = np.array([[0] + [1] * 19 + [0, 1]], np.uint8)
    metrics = metric()
    metrics.update(score, label)
    assert metrics.compute().fpr95 == 0.5


def test_pixels_labelled_255_count_nowhere_even_where_the_score_is_nan() -> None:
    score, label = frames_of("uniform", 0, 1)[0]
    figures = exactly([(score, label)]).compute()
    score[label == 255] = np.nan
    assert exactly([(score, label)]).compute() == figures
    assert exactly([(score[label != 255][None], label[label != 255][None])]).compute() == figures


def test_the_curve_has_points_of_the_whole_curve_from_one_end_to_the_other() -> None:
    frames = frames_of("uniform", 0)
    curve = exactly(frames).curve(100)
    scores, labels = pooled(frames)
    assert 20 < curve.threshold.size <= 110
    assert (np.diff(curve.threshold) < 0).all()
    for index in range(curve.threshold.size):
        above = scores.astype(np.float64) >= curve.threshold[index]
        assert curve.true_positive_rate[index] == pytest.approx(above[labels == 1].mean())
        assert curve.false_positive_rate[index] == pytest.approx(above[labels == 0].mean())
        assert curve.precision[index] == pytest.approx(labels[above].mean())
    assert curve.true_positive_rate[-1] == curve.false_positive_rate[-1] == 1


def test_thresholds_of_the_counts_are_scores_from_which_their_pixels_are_counted(counting: None) -> None:
    scores, labels = pooled(frames_of("infinities", 0) + frames_of("negative logits", 1))
    counts = ScoreCounts()
    counts.update(scores[None], labels[None])
    found = [(part.threshold, part.anomalies, part.inliers) for part in counts.descending()]
    threshold, anomalies, inliers = (np.concatenate(column) for column in zip(*found, strict=True))
    assert (threshold[:-1] > threshold[1:]).all()
    assert threshold[0] == np.inf
    assert threshold[-1] == -np.inf
    for index in range(0, threshold.size, 97):
        above = scores >= threshold[index]
        assert anomalies[: index + 1].sum() == int((labels[above] == 1).sum())
        assert inliers[: index + 1].sum() == int((labels[above] == 0).sum())


@pytest.mark.parametrize("sorted_pixels", [1 << 22, 4000, -1])
@pytest.mark.parametrize("name", STREAMING)
def test_processes_that_share_the_frames_find_what_one_finds_alone(
    name: str, sorted_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some processes count in bins and some sort, or all do the one or the other.
    monkeypatch.setattr(score_counts, "SORTED_PIXELS", sorted_pixels)
    frames = [frame for kind in ("uniform", "ten values") for frame in frames_of(kind, 5, 3, (30, 40))]
    alone, shares = STREAMING[name](), [STREAMING[name]() for _ in range(3)]
    for index, frame in enumerate(frames):
        alone.update(*frame)
        shares[index % 2].update(*frame)
    # The third process has had no frame; what they send is pickled.
    first, second, third = (pickle.loads(pickle.dumps(share)) for share in shares)
    third.merge(first)
    third.merge(second)
    found, wanted = vars(third.compute()), vars(alone.compute())
    assert found == pytest.approx(wanted, abs=1e-12)
    # The one that was merged is as it was.
    assert vars(first.compute()) == pytest.approx(vars(shares[0].compute()), abs=1e-12)


def test_pickled_counts_hold_what_is_there_and_not_the_table(binned: None) -> None:
    counts = ScoreCounts()
    counts.update(*frames_of("uniform", 0, 1)[0])
    sent = pickle.dumps(counts)
    assert len(sent) < 300_000
    copy = pickle.loads(sent)
    copy.update(*frames_of("uniform", 1, 1)[0])
    assert (copy.num_anomalies, copy.num_inliers) != (counts.num_anomalies, counts.num_inliers)
    assert values(ExactPixelMetrics(copy).compute()) == values(
        exactly([*frames_of("uniform", 0, 1), *frames_of("uniform", 1, 1)]).compute()
    )


@pytest.mark.parametrize("distribution", ["uniform", "logits of both signs", "within 1e-5 of one"])
def test_memory_does_not_grow_with_the_frames(distribution: str, binned: None) -> None:
    metrics = ExactPixelMetrics()
    frames = frames_of(distribution, 0, 4, (100, 200))
    tracemalloc.start()
    try:
        metrics.update(*frames[0])
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            for frame in frames:
                metrics.update(*frame)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # 40 frames; a list of a number a frame would do, the pixels of one would not.
    assert grown < frames[0][0].nbytes // 8
    assert metrics.counts.num_anomalies + metrics.counts.num_inliers == 10 * sum(
        int((label != 255).sum()) for _, label in frames
    ) + int((frames[0][1] != 255).sum())


def test_more_pixels_than_32_bits_can_count(binned: None) -> None:
    counts = ScoreCounts()
    counts.update(np.array([[0.25, 0.75, 0.75]], np.float32), np.array([[0, 1, 0]], np.uint8))
    for _ in range(34):
        counts.merge(pickle.loads(pickle.dumps(counts)))
    found = [(part.threshold.tolist(), part.anomalies.tolist(), part.inliers.tolist()) for part in counts.descending()]
    assert found == [([0.75], [1 << 34], [1 << 34]), ([0.25], [0], [1 << 34])]
    assert (counts.num_anomalies, counts.num_inliers) == (1 << 34, 2 << 34)
    assert values(ExactPixelMetrics(counts).compute()) == pytest.approx((0.5, 0.5, 0.75))


@pytest.mark.parametrize("carry_at", [1500, 3000, 4000])
def test_counts_are_carried_over_before_they_overflow(
    carry_at: int, binned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_counts, "CARRY_AT", carry_at)
    # One score has 90 % of the pixels; a frame has about 1000 that count.
    frames = [(np.minimum(score, 0.1), label) for score, label in frames_of("ten values", 0, 20, (25, 50))]
    metrics = ExactPixelMetrics()
    for frame in frames[:17]:
        metrics.update(*frame)
        assert metrics.counts._bins is not None
        assert int(metrics.counts._bins._table.max()) < 2 * carry_at
    assert metrics.counts._bins is not None
    assert metrics.counts._bins._carried
    metrics.merge(exactly(frames[17:19]))
    metrics = pickle.loads(pickle.dumps(metrics))
    metrics.update(*frames[19])
    assert values(metrics.compute()) == pytest.approx(by_scikit_learn(frames), abs=1e-12)
