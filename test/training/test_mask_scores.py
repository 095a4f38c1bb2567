from __future__ import annotations

import math

import pytest
import torch

from training.bundles.graph import LOGITS, MASK_SUMS, GraphError, source_of_score
from training.segmenter.anomaly_scores import SCORES
from training.segmenter.mask_scores import ALL_SCORES, MASK_SCORES, class_sums, logits_of_sums, mask_sums

CLASSES = 2
# Three queries: sure of class 0, torn between both classes, sure of no object.
CLASS_LOGITS = [[6.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 8.0]]
# At four pixels: claimed by the first, by the first two, by none, by "no object" only.
MASK_LOGITS = [[9.0, 9.0, -9.0, -9.0], [-9.0, 9.0, -9.0, -9.0], [-9.0, -9.0, -9.0, 9.0]]
CLAIMED, CLAIMED_TWICE, CLAIMED_BY_NONE, NO_OBJECT = range(4)


def by_hand() -> tuple[list[list[float]], list[float]]:
    """L_k and E of each pixel, query by query as the papers have them."""
    sums, evidence = [], []
    for pixel in range(4):
        of_pixel, best = [0.0] * CLASSES, 0.0
        for classes, masks in zip(CLASS_LOGITS, MASK_LOGITS, strict=True):
            total = sum(math.exp(value) for value in classes)
            probabilities = [math.exp(value) / total for value in classes][:CLASSES]
            mask = 1 / (1 + math.exp(-masks[pixel]))
            of_pixel = [a + p * mask for a, p in zip(of_pixel, probabilities, strict=True)]
            best += mask * max(probabilities)
        sums.append(of_pixel)
        evidence.append(best)
    return sums, evidence


@pytest.fixture
def sums() -> torch.Tensor:
    return mask_sums(torch.tensor(CLASS_LOGITS)[None], torch.tensor(MASK_LOGITS)[None, :, None, :])


def test_the_sums_are_those_of_each_query(sums: torch.Tensor) -> None:
    expected, evidence = by_hand()
    torch.testing.assert_close(class_sums(sums)[0, :, 0].T, torch.tensor(expected))
    torch.testing.assert_close(sums[0, -1, 0], torch.tensor(evidence))


def test_the_scores_are_those_of_the_papers(sums: torch.Tensor) -> None:
    expected, evidence = by_hand()
    rejected = [-sum(math.tanh(value) for value in of_pixel) for of_pixel in expected]
    torch.testing.assert_close(MASK_SCORES["rejected_by_all"].natural(sums, 1.0)[0, 0, 0], torch.tensor(rejected))
    eam = torch.tensor([1 - value for value in evidence])
    torch.testing.assert_close(1 + MASK_SCORES["ensemble_over_masks"].natural(sums, 1.0)[0, 0, 0], eam)
    probabilities = torch.tensor([[value / sum(of_pixel) for value in of_pixel] for of_pixel in expected])
    torch.testing.assert_close(torch.softmax(logits_of_sums(sums), 1)[0, :, 0].T, probabilities, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", MASK_SCORES)
def test_pixels_that_no_mask_claims_are_unknown(name: str, sums: torch.Tensor) -> None:
    score = MASK_SCORES[name].in_unit_range(sums, 1.0)[0, 0, 0]
    assert score[CLAIMED_BY_NONE] > 0.99
    assert score[NO_OBJECT] > 0.99
    assert score[CLAIMED_TWICE] < score[CLAIMED] < 0.6
    # A temperature keeps the order.
    assert MASK_SCORES[name].in_unit_range(sums, 3.0)[0, 0, 0].argsort().equal(score.argsort())


def test_a_score_is_computed_from_what_suits_the_network() -> None:
    for name in SCORES:
        assert source_of_score(name, of_masks=False) == source_of_score(name, of_masks=True) == LOGITS
    for name in MASK_SCORES:
        assert source_of_score(name, of_masks=True) == MASK_SUMS
        with pytest.raises(GraphError, match="does not suit a network that gives logits and no masks"):
            source_of_score(name, of_masks=False)
    assert len(ALL_SCORES) == len(SCORES) + len(MASK_SCORES)
