from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.bundles.operating_points import FALSE_POSITIVE_RATES, inlier_operating_points
from training.metrics.semantic import ConfusionMatrix
from training.segmenter.cross_entropy import class_weights, dense_cross_entropy
from training.segmenter.segmenter import up_sampled


def test_the_loss_is_the_weighted_mean_over_valid_pixels() -> None:
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 16, 16))
    labels[:, :5] = 255
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    dense = functional.interpolate(logits, scale_factor=4.0, mode="bilinear")
    expected = functional.cross_entropy(dense.float(), labels, weights.float(), ignore_index=255)
    torch.testing.assert_close(dense_cross_entropy(up_sampled(logits, (16, 16)), labels, weights.float()), expected)


def test_a_batch_without_a_valid_pixel_has_no_loss_and_no_nan() -> None:
    labels = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    assert float(dense_cross_entropy(up_sampled(torch.randn(1, 3, 2, 2), (8, 8)), labels, torch.ones(3))) == 0.0


def test_rare_classes_weigh_more_and_the_mean_over_pixels_is_one() -> None:
    labels = np.array([[0] * 90 + [1] * 9 + [2], [255] * 100], np.uint8)
    weights = class_weights([labels], 3, "inverse_log", 1.02)
    assert weights[0] < weights[1] < weights[2]
    assert float((weights * torch.tensor([0.9, 0.09, 0.01])).sum()) == pytest.approx(1.0)
    ratio = np.log(1.02 + 0.9) / np.log(1.02 + 0.01)
    assert float(weights[2] / weights[0]) == pytest.approx(ratio, rel=1e-5)
    assert class_weights([labels], 3, "none", 1.02).tolist() == [1, 1, 1]


def test_iou_by_hand() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 255]], np.uint8))
    np.testing.assert_allclose(confusion.iou(), [1 / 2, 1 / 2, np.nan])
    assert confusion.mean_iou() == pytest.approx(0.5)


def test_without_a_pixel_the_mean_is_undefined_and_not_zero() -> None:
    assert np.isnan(ConfusionMatrix(3).mean_iou())


@pytest.mark.parametrize(
    ("predicted", "labels", "message"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), r"prediction is \(2, 2\), labels are \(2, 3\)"),
        (np.zeros((1, 1), np.uint8), np.array([[3]], np.uint8), "label 3 is not one of the 3 classes"),
        (np.array([[7]], np.uint8), np.zeros((1, 1), np.uint8), "predicted id 7 is not one of the 3 classes"),
    ],
)
def test_bad_input_is_named(predicted: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(predicted, labels)


def test_a_threshold_is_reached_by_no_more_than_the_stated_share_of_inlier_pixels() -> None:
    generator = np.random.default_rng(0)
    scores = [generator.beta(1, 6, (50, 60)).astype(np.float32) for _ in range(4)]
    labels = [np.where(generator.random((50, 60)) < 0.1, 255, 0).astype(np.uint8) for _ in range(4)]
    points = inlier_operating_points(zip(scores, labels, strict=True), "synthetic")
    pooled = np.concatenate([s[m != 255] for s, m in zip(scores, labels, strict=True)])
    for point, rate in zip(points, FALSE_POSITIVE_RATES, strict=True):
        reached = float((pooled >= point.threshold).mean())
        assert reached <= rate
        assert reached > rate - 2e-3
        assert point.false_positive_rate == pytest.approx(reached)


def test_no_labelled_pixel_gives_no_threshold() -> None:
    with pytest.raises(ValueError, match="no labelled pixel"):
        inlier_operating_points([(np.zeros((2, 2), np.float32), np.full((2, 2), 255, np.uint8))], "nothing")
