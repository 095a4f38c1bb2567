"""The anomaly scores against their definitions, against pytorch-ood, and in the exported graph."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from training.scores import SCORES, energy, entropy, jensen_shannon_to_uniform, largest_jensen_shannon_to_uniform


def logits_of_many_kinds() -> Tensor:
    """Undecided, decided and certain pixels: (2, 7, 5, 6) float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 5, 6, dtype=torch.float64, generator=generator)
    return logits * torch.logspace(-1, 1.5, 60, dtype=torch.float64).reshape(2, 1, 5, 6)


def definition(name: str, logits: Tensor, temperature: float) -> Tensor:
    """The score as its docstring writes it, from torch's own distributions."""
    p = (logits / temperature).softmax(dim=1)
    log_p = (logits / temperature).log_softmax(dim=1)
    uniform = torch.full_like(p, 1 / p.shape[1])
    m = (p + uniform) / 2
    return {
        "maximum_softmax": lambda: -p.max(dim=1).values,
        "maximum_logit": lambda: -(logits / temperature).max(dim=1).values,
        "entropy": lambda: -(p * log_p).sum(dim=1),
        "energy": lambda: -temperature * (logits / temperature).logsumexp(dim=1),
        "kullback_leibler_to_uniform": lambda: -(uniform * (uniform.log() - log_p)).sum(dim=1),
        "jensen_shannon_to_uniform": lambda: (
            -0.5 * (uniform * (uniform / m).log()).sum(1) - 0.5 * (p * (p / m).log()).sum(1)
        ),
    }[name]()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_its_definition(name: str, temperature: float) -> None:
    logits = logits_of_many_kinds()
    found = SCORES[name].natural(logits, temperature)[:, 0]
    torch.testing.assert_close(found, definition(name, logits, temperature), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", SCORES)
def test_the_map_to_the_unit_range_keeps_the_order(name: str) -> None:
    logits = logits_of_many_kinds()
    natural = SCORES[name].natural(logits, 1.0).flatten()
    unit = SCORES[name].in_unit_range(logits, 1.0).flatten()
    assert float(unit.min()) >= 0
    assert float(unit.max()) <= 1
    torch.testing.assert_close(unit[natural.argsort()], unit.sort().values, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"maximum_logit", "energy"}))
def test_a_uniform_distribution_scores_one_and_a_certain_one_zero(name: str) -> None:
    logits = torch.zeros(1, 11, 1, 2)
    logits[0, 3, 0, 1] = 200.0
    assert SCORES[name].in_unit_range(logits, 1.0).flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(("num_classes", "value"), [(12, 0.54625), (19, 0.58867)])
def test_the_largest_divergence_is_the_one_hots(num_classes: int, value: float) -> None:
    assert largest_jensen_shannon_to_uniform(num_classes) == pytest.approx(value, abs=1e-5)


def test_the_divergence_is_monotone_in_certainty_in_single_precision() -> None:
    logits = torch.zeros(1, 11, 1, 400)
    logits[0, 3, 0] = torch.linspace(0, 200, 400)
    score = SCORES["jensen_shannon_to_uniform"].in_unit_range(logits, 1.0)[0, 0, 0]
    assert (score.diff() <= 1e-6).all()


def test_huge_logits_give_no_nan() -> None:
    logits = torch.tensor([1e30, -1e30, 0.0]).reshape(1, 3, 1, 1)
    for name, score in SCORES.items():
        assert torch.isfinite(score.in_unit_range(logits, 1.0)).all(), name


@pytest.fixture
def pytorch_ood(monkeypatch: pytest.MonkeyPatch) -> Any:
    """pytorch-ood's detectors. Its package imports torchvision, which no score uses and not every machine can have
    beside its torch: where it is missing, empty modules take its place for the import."""
    if importlib.util.find_spec("pytorch_ood") is None:
        pytest.skip("pytorch-ood is not installed (requirements/reference.txt)")
    if importlib.util.find_spec("torchvision") is None:

        class Nothing(ModuleType):
            __path__ = ()  # type: ignore[assignment]

            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                return MagicMock(name=name)

        for name in (
            "",
            ".transforms",
            ".transforms.functional",
            ".datasets",
            ".datasets.utils",
            ".datasets.folder",
            ".models",
            ".models.resnet",
        ):
            monkeypatch.setitem(sys.modules, f"torchvision{name}", Nothing(f"torchvision{name}"))
    import pytorch_ood.detector

    return pytorch_ood.detector


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_pytorch_ood_has_the_same_scores(pytorch_ood: Any, temperature: float) -> None:
    # Its entropy clips probabilities at 1e-7: no logit here gives a smaller one.
    logits = logits_of_many_kinds().clamp(-6, 6)
    pairs = {
        "maximum_softmax": pytorch_ood.MaxSoftmax.score(logits, temperature),
        "maximum_logit": pytorch_ood.MaxLogit.score(logits),
        "energy": pytorch_ood.EnergyBased.score(logits, temperature),
        "entropy": pytorch_ood.Entropy.score(logits),
    }
    for name, expected in pairs.items():
        ours = SCORES[name].natural(logits, temperature if name in ("maximum_softmax", "energy") else 1.0)
        torch.testing.assert_close(ours[:, 0], expected.reshape(ours[:, 0].shape), rtol=0, atol=1e-10, msg=name)


def test_known_values() -> None:
    logits = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).reshape(1, 2, 1, 1)  # p = 1/4, 3/4
    assert float(entropy(logits)) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert float(energy(logits)) == pytest.approx(-math.log(4))
    m = (0.375, 0.625)
    divergence = 0.5 * (0.5 * math.log(0.5 / m[0]) + 0.5 * math.log(0.5 / m[1])) + 0.5 * (
        0.25 * math.log(0.25 / m[0]) + 0.75 * math.log(0.75 / m[1])
    )
    assert float(jensen_shannon_to_uniform(logits)) == pytest.approx(-divergence)
