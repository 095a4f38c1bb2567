"""What is undefined without pixels of a kind, and what every metric refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from metric_frames import (
    STREAMING,
    Frame,
    frames_of,
)

from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.calibration_error import CalibrationError
from training.metrics.open_semantic import (
    OpenSemanticMetrics,
    threshold_at_recall,
)
from training.metrics.score_counts import ScoreCounts


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
