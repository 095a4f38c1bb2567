"""The figures of SegmentMeIfYouCan: published values on real frames, and the definitions, pixel by pixel."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_frames import (
    Frame,
    by_scikit_learn,
    frames_of,
)
from numpy.typing import NDArray

from training.data.registry import open_data_set
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.component_smiyc import (
    ANOMALY_TRACK,
    OBSTACLE_TRACK,
    ComponentSizes,
    SmiycComponentMetrics,
)
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics


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
