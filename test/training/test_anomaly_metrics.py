"""The anomaly metrics against published numbers, against scikit-learn, and against their definitions written out."""

from __future__ import annotations

import bisect
import itertools
import math
import pickle
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from training.data.labelled_frames import LabelledFrame
from training.data.registry import open_data_set
from training.evaluation.set_evaluation import SetEvaluation
from training.metrics import score_counts
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.calibration_error import CalibrationError
from training.metrics.component_smiyc import (
    ANOMALY_TRACK,
    OBSTACLE_TRACK,
    ComponentSizes,
    SmiycComponentMetrics,
)
from training.metrics.open_semantic import (
    OpenSemanticMetrics,
    Town,
    half_size,
    open_miou,
    threshold_at_recall,
)
from training.metrics.pixel_exact import ExactPixelMetrics, PixelFigures
from training.metrics.pixel_per_image import PerImagePixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics
from training.metrics.score_counts import ScoreCounts
from training.metrics.scores_by_class import BINS, ScoresByClass

Frame = tuple[NDArray[Any], NDArray[np.uint8]]


# Published numbers


def saturation(image: NDArray[np.uint8]) -> NDArray[np.float16]:
    """HSV saturation of (H, W, 3) uint8 RGB: (max - min) / max, 0 where max is 0."""
    largest, smallest = image.max(2).astype(np.float64), image.min(2)
    return np.divide(largest - smallest, largest, out=np.zeros_like(largest), where=largest > 0).astype(np.float16)


GOLDEN = {
    "smiyc_anomaly_val": {
        "frames": 10,
        "sizes": ANOMALY_TRACK,
        "true_components": 16,
        "exact": (0.206749, 0.869025, 0.615186),
        "official": (0.206956, 0.868540, 0.615277, 0.306300, 0.285156),
        "component": (0.145551, 0.144371, 0.027298),
    },
    "smiyc_obstacle_val": {
        "frames": 30,
        "sizes": OBSTACLE_TRACK,
        "true_components": 45,
        "exact": (0.501470, 0.760172, 0.869764),
        "official": (0.507147, 0.759890, 0.869836, 0.600254, 0.409799),
        "component": (0.223928, 0.703900, 0.297205),
    },
}
"""Of the saturation in float16. The values that tell the published definitions from others that are close to them."""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_saturation_of_the_real_frames_has_the_published_values(
    name: str, real_frames: Callable[[str], Path]
) -> None:
    golden: dict[str, Any] = GOLDEN[name]
    frames = open_data_set(name, real_frames(name))
    assert len(frames) == golden["frames"]
    scored = [(saturation(frame.image), frame.anomaly) for frame in frames]
    exact, official = ExactPixelMetrics(), SmiycPixelMetrics()
    for frame in scored:
        exact.update(*frame)
        official.update(*frame)
    pixels, binned = exact.compute(), official.compute()
    assert (pixels.ap, pixels.fpr95, pixels.auroc) == pytest.approx(golden["exact"], abs=1e-6)
    assert (binned.ap, binned.fpr95, binned.auroc, binned.best_f1, binned.threshold) == pytest.approx(
        golden["official"], abs=1e-5
    )
    components = SmiycComponentMetrics(binned.threshold, golden["sizes"])
    for frame in scored:
        components.update(*frame)
    figures = components.compute()
    assert figures.true_components == golden["true_components"]
    # As many digits as are published: one pixel more in one component is 1e-5 of sIoU.
    assert (figures.siou, figures.ppv, figures.mean_f1) == pytest.approx(golden["component"], abs=5.1e-7)


# Exact: scikit-learn on the pooled pixels


@pytest.fixture
def binned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pixel is counted in bins, as it is where there are millions of them."""
    monkeypatch.setattr(score_counts, "SORTED_PIXELS", -1)


@pytest.fixture(params=["sorted", "binned", "sorted, then binned"])
def counting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of counting, and the change from one to the other after some frames."""
    limit = {"sorted": 1 << 22, "binned": -1, "sorted, then binned": 6000}[request.param]
    monkeypatch.setattr(score_counts, "SORTED_PIXELS", limit)


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


# Streaming


STREAMING: dict[str, Callable[[], Any]] = {
    "exact": ExactPixelMetrics,
    "official": SmiycPixelMetrics,
    "per image": PerImagePixelMetrics,
    "component": lambda: SmiycComponentMetrics(0.6, ComponentSizes(4, 3)),
}


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


# Official SMIYC: the definitions, pixel by pixel


def binned_by_definition(frames: Iterable[Frame]) -> tuple[float, float, float, float, float]:
    """AP, FPR95, AUROC, best F1 and its threshold, each pixel put into its bin by itself."""
    detected_from: list[tuple[float, int]] = []
    thresholds: set[float] = set()
    for score, label in frames:
        pixels = [(float(np.float16(s)), int(k)) for s, k in zip(score.ravel(), label.ravel(), strict=True) if k != 255]
        values = [s for s, _ in pixels]
        margin = max((max(values) - min(values)) * 0.01, 0.01)
        edges = {min(values) - margin, max(values) + margin}
        for kind in (0, 1):
            own = np.array([s for s, k in pixels if k == kind], np.float16)
            # numpy's own rounding: it decides on which side of an edge the pixel is that gave the edge.
            edges |= set(np.quantile(own, np.linspace(0, 1, min(384, own.size))).tolist())
        bins = sorted(edges)
        thresholds |= set(bins[:-1])
        detected_from += [(bins[bisect.bisect_right(bins, s) - 1], k) for s, k in pixels]
    positives = sum(k for _, k in detected_from)
    negatives = len(detected_from) - positives
    points = [(0, 0, 0.0)]
    for threshold in sorted(thresholds, reverse=True):
        kinds = [k for left_edge, k in detected_from if left_edge >= threshold]
        points.append((sum(kinds), len(kinds) - sum(kinds), threshold))
    ap = area = 0.0
    for (tp0, fp0, _), (tp, fp, _) in itertools.pairwise(points):
        ap += (tp - tp0) / positives * (tp / (tp + fp) if tp + fp else 1)
        area += (fp - fp0) / negatives * (tp + tp0) / 2 / positives
    fpr95 = next(fp / negatives for tp, fp, _ in points if tp / positives >= 0.95)
    f1 = [2 * tp / (2 * tp + fp + (positives - tp)) for tp, fp, _ in points]
    best = f1.index(max(f1))
    return ap, fpr95, area, f1[best], points[best][2]


@pytest.mark.parametrize("shape", [(6, 7), (40, 60)], ids=["fewer pixels than quantiles", "more"])
@pytest.mark.parametrize("distribution", ["uniform", "ten values", "one value", "negative logits", "skewed to zero"])
def test_the_official_figures_are_their_definition(distribution: str, shape: tuple[int, int]) -> None:
    frames = frames_of(distribution, 3, 3, shape)
    # Half of the pixels are anomalies in the last one: more than there are quantiles.
    frames[-1][1][:, ::2] = 1
    metrics = SmiycPixelMetrics()
    for frame in frames:
        metrics.update(*frame)
    found = metrics.compute()
    assert (found.ap, found.fpr95, found.auroc, found.best_f1, found.threshold) == pytest.approx(
        binned_by_definition(frames), abs=1e-9
    )


def test_large_scores_keep_their_highest_bin() -> None:
    # In float16 there is nothing between 1000 and 1000 + 0.01: all would fall into the last bin.
    score = np.array([[1000.0, 1000.0, 999.5, 999.5, 998.0]], np.float16)
    metrics = SmiycPixelMetrics()
    metrics.update(score, np.array([[1, 1, 0, 0, 0]], np.uint8))
    found = metrics.compute()
    assert (found.ap, found.fpr95, found.best_f1, found.threshold) == (1, 0, 1, 1000)


def test_the_binning_costs_little_against_all_pixels() -> None:
    frames = frames_of("uniform", 4, 4)
    metrics = SmiycPixelMetrics()
    for frame in frames:
        metrics.update(*frame)
    assert metrics.compute().ap == pytest.approx(by_scikit_learn(frames)[0], abs=5e-3)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e6])
def test_scores_that_float16_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(MetricInputError, match=r"scores from .*inf.* in float16; they must be finite"):
        SmiycPixelMetrics().update(np.array([[0.5, value]], np.float32), np.array([[0, 1]], np.uint8))


# Components


def components_by_definition(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """8-connected components, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        component, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            component.add((y, x))
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    border.append(neighbour)
        found.append(component)
    return found


def component_figures_by_definition(
    frames: Iterable[Frame], threshold: float, sizes: ComponentSizes
) -> tuple[float, float, float]:
    """sIoU, PPV, mean F1."""
    siou, ppv = [], []
    for score, label in frames:
        predicted = components_by_definition((score > threshold) & (label != 255))
        predicted = [component for component in predicted if len(component) >= sizes.predicted]
        every = components_by_definition(label == 1)
        true = [component for component in every if len(component) >= sizes.true]
        void = {pixel for component in every if len(component) < sizes.true for pixel in component}
        predicted = [component - void for component in predicted if component - void]
        for g in true:
            hits = set().union(*(k for k in predicted if k & g)) if predicted else set()
            others = {pixel for other in true if other is not g for pixel in other}
            intersection, elsewhere = len(hits & g), len(hits & others)
            siou.append(intersection / (len(hits) + len(g) - intersection - elsewhere))
        ppv += [len(k & {pixel for g in true for pixel in g}) / len(k) for k in predicted]
    f1 = []
    # The board's own numbers: its 0.6 is 0.6000000000000001, which an sIoU of 3/5 does not reach.
    for tau in np.linspace(0.25, 0.75, 11).tolist():
        tp, fn, fp = sum(s >= tau for s in siou), sum(s < tau for s in siou), sum(p < tau for p in ppv)
        f1.append(2 * tp / (2 * tp + fn + fp) if siou else float("nan"))
    mean = lambda numbers: sum(numbers) / len(numbers) if numbers else float("nan")  # noqa: E731
    return mean(siou), mean(ppv), mean(f1)


grids = st.integers(0, 2**32 - 1)


@settings(max_examples=120, deadline=None)
@given(grids, st.floats(0.1, 0.7), st.integers(1, 6), st.integers(1, 6))
def test_the_component_figures_are_their_definition(seed: int, density: float, predicted: int, true: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = ComponentSizes(predicted, true)
    metrics = SmiycComponentMetrics(0.5, sizes)
    frames = []
    for _ in range(2):
        # Blocks, so that there are components of many sizes which touch at corners.
        blocks = generator.choice([0, 1, 255], (5, 7), p=[1 - density, 0.8 * density, 0.2 * density])
        label = np.kron(blocks, np.ones((2, 2))).astype(np.uint8)
        label[generator.random(label.shape) < 0.1] = 1
        score = 0.6 * np.kron(generator.random((5, 7)), np.ones((2, 2))) + 0.3 * (label == 1)
        score = np.roll(score, generator.integers(-2, 3), axis=1).astype(np.float16)
        frames.append((score, label))
        metrics.update(score, label)
    found = metrics.compute()
    assert (found.siou, found.ppv, found.mean_f1) == pytest.approx(
        component_figures_by_definition(frames, 0.5, sizes), abs=1e-12, nan_ok=True
    )


def test_component_figures_by_hand() -> None:
    # One object of 4 pixels, 2 of them found by a component of 3; a second object, missed; a false alarm of 2.
    label = np.array([[1, 1, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 1]], np.uint8)
    score = np.array([[0, 1, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0]], np.float32)
    metrics = SmiycComponentMetrics(0.5, ComponentSizes(1, 1))
    metrics.update(score, label)
    found = metrics.compute()
    assert (found.true_components, found.predicted_components) == (2, 2)
    assert found.siou == pytest.approx((2 / (3 + 4 - 2) + 0) / 2)
    assert found.ppv == pytest.approx((2 / 3 + 0) / 2)
    # sIoU 0.4 counts up to tau = 0.40, PPV 2/3 up to 0.65: 4, then 5, then 2 thresholds.
    assert found.mean_f1 == pytest.approx((4 * 2 / (2 + 1 + 1) + 5 * 0 + 2 * 0) / 11)


def test_a_score_on_the_threshold_is_not_above_it_in_the_scores_own_precision() -> None:
    value = np.float16(0.41)
    label = np.array([[1, 1, 0, 0]], np.uint8)
    score = np.array([[value, value, 0, 0]], np.float16)
    for threshold, found in ((float(value), 0), (float(value) - 1e-5, 0), (float(value) - 1e-3, 1)):
        metrics = SmiycComponentMetrics(threshold, ComponentSizes(1, 1))
        metrics.update(score, label)
        assert metrics.compute().predicted_components == found


# StreetHazards


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


# open-mIoU


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


# Calibration error


def test_calibration_error_by_hand() -> None:
    metric = CalibrationError(bins=10)
    # Bin (0.5, 0.6]: confidences 0.55 and 0.6, one right. Bin (0.9, 1]: two right of two. The last pixel is void.
    confidence = np.array([[0.55, 0.6, 0.95, 1.0, 0.3]])
    predicted = np.array([[1, 2, 3, 4, 5]], np.uint8)
    metric.update(confidence, predicted, np.array([[1, 9, 3, 4, 255]], np.uint8))
    assert metric.compute() == pytest.approx(0.5 * abs(0.5 - 0.575) + 0.5 * abs(1 - 0.975))
    mean_confidence, accuracy, share = metric.reliability()
    np.testing.assert_allclose(mean_confidence, [0.575, 0.975])
    np.testing.assert_allclose(accuracy, [0.5, 1])
    np.testing.assert_allclose(share, [0.5, 0.5])


def test_confidences_that_come_true_have_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random((300, 1000))
    right = generator.random(confidence.shape) < confidence
    halves = [CalibrationError(), CalibrationError()]
    for half, rows in zip(halves, (slice(0, 100), slice(100, 300)), strict=True):
        half.update(confidence[rows], np.ones((300, 1000), np.uint8)[rows], right[rows].astype(np.uint8))
    halves[0].merge(halves[1])
    assert halves[0].compute() < 0.01
    overconfident = CalibrationError()
    overconfident.update(np.sqrt(confidence), np.ones((300, 1000), np.uint8), right.astype(np.uint8))
    assert overconfident.compute() == pytest.approx(2 / 3 - 1 / 2, abs=0.01)


@pytest.mark.parametrize("broken", [1.01, -0.01, float("nan")])
def test_confidences_outside_zero_and_one_are_refused(broken: float) -> None:
    with pytest.raises(MetricInputError, match=r"confidences must be in \[0, 1\]"):
        CalibrationError().update(np.array([[0.5, broken]]), np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8))


# What is undefined, and what is refused


def figures_of(name: str, label: int | None) -> dict[str, float]:
    metrics = STREAMING[name]()
    if label is not None:
        metrics.update(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), np.full((3, 4), label, np.uint8))
    return {key: value for key, value in vars(metrics.compute()).items() if not key.endswith("_components")}


@pytest.mark.parametrize("label", [None, 255, 0], ids=["no frame", "void only", "no anomaly"])
@pytest.mark.parametrize("name", STREAMING)
def test_without_anomaly_pixels_nothing_is_defined_and_nothing_is_zero(name: str, label: int | None) -> None:
    found = figures_of(name, label)
    if name == "component" and label == 0:
        # Components were predicted, and none of them is right: that much is known.
        assert found.pop("ppv") == 0
    assert all(math.isnan(value) for value in found.values()), found


@pytest.mark.parametrize("name", ["exact", "official", "per image"])
def test_without_inlier_pixels_what_needs_them_is_undefined(name: str) -> None:
    found = figures_of(name, 1)
    assert math.isnan(found["fpr95"])
    assert math.isnan(found["auroc"])
    assert found["ap"] == 1 if name != "per image" else math.isnan(found["ap"])


def test_no_pixel_has_no_calibration_error_and_no_threshold() -> None:
    metric = CalibrationError()
    assert math.isnan(metric.compute())
    metric.update(np.full((2, 2), 0.5), np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert math.isnan(metric.compute())
    assert math.isnan(OpenSemanticMetrics(3, 0.5).compute())
    with pytest.raises(MetricInputError, match="no anomaly pixel"):
        threshold_at_recall(ScoreCounts())


def nan_at_an_inlier() -> Frame:
    return np.array([[0.1, np.nan, np.nan]], np.float32), np.array([[0, 0, 255]], np.uint8)


BAD_INPUT: dict[str, tuple[Callable[[], tuple[Any, Any]], str]] = {
    "NaN": (nan_at_an_inlier, r"the score is NaN at 1 of 3 pixels"),
    "NaN beside infinities": (
        lambda: (np.array([[np.inf, -np.inf, np.nan]], np.float16), np.zeros((1, 3), np.uint8)),
        "the score is NaN at 1 of 3 pixels",
    ),
    "another size": (
        lambda: (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.uint8)),
        r"the score is \(2, 3\), the labels are \(3, 2\)",
    ),
    "an unknown label": (
        lambda: (np.zeros((1, 2), np.float32), np.array([[1, 7]], np.uint8)),
        r"label value\(s\) \[7\]",
    ),
    "integer scores": (lambda: (np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8)), "the score is uint8"),
    "wide labels": (lambda: (np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64)), "the labels are int64"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
@pytest.mark.parametrize("name", [*STREAMING, "open semantic"])
def test_bad_input_is_refused_and_named_and_leaves_the_metric_as_it_was(name: str, case: str) -> None:
    make, message = BAD_INPUT[case]
    score, anomaly = make()
    if name == "open semantic":
        with pytest.raises(MetricInputError, match=message):
            OpenSemanticMetrics(3, 0.5).update(np.zeros(anomaly.shape, np.uint8), score, anomaly, anomaly)
        return
    metrics = STREAMING[name]()
    metrics.update(*frames_of("uniform", 0, 1)[0])
    before = vars(metrics.compute())
    with pytest.raises(MetricInputError, match=message):
        metrics.update(score, anomaly)
    assert vars(metrics.compute()) == before


def test_the_other_metrics_refuse_sizes_that_differ_and_thresholds_that_do_not_fit() -> None:
    small, large = np.zeros((1, 2), np.uint8), np.zeros((2, 2), np.uint8)
    with pytest.raises(MetricInputError, match=r"confidence \(1, 2\), prediction \(1, 2\) and labels \(2, 2\) differ"):
        CalibrationError().update(np.zeros((1, 2)), small, large)
    with pytest.raises(MetricInputError, match="sizes differ"):
        OpenSemanticMetrics(2, 0.5).update(large, np.zeros((1, 2)), small, small)
    with pytest.raises(MetricInputError, match="only metrics with the same classes and threshold can be merged"):
        OpenSemanticMetrics(2, 0.5).merge(OpenSemanticMetrics(2, 0.6))


# By class


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
