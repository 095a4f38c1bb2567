"""The calibration error of confidences, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.calibration_error import CalibrationError


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
