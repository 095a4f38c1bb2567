"""The anomaly scores against their definitions, against pytorch-ood, and in the exported graph."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tensorrt_parsers import complaints
from torch import Tensor

from training.bundles.onnx_export import onnx_bytes
from training.segmenter.anomaly_scores import (
    BORDER_WIDTHS,
    SCORES,
    border_suppressed,
    energy,
    entropy,
    jensen_shannon_to_uniform,
    largest_jensen_shannon_to_uniform,
)
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig


def logits_of_many_kinds() -> Tensor:
    """Undecided, decided and certain pixels: (2, 7, 5, 6) float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 5, 6, dtype=torch.float64, generator=generator)
    return logits * torch.logspace(-1, 1.5, 60, dtype=torch.float64).reshape(2, 1, 5, 6)


OFF_BORDERS = "_off_borders"
OPENED = "_opened"


def off_borders_by_definition(value: Tensor, logits: Tensor) -> Tensor:
    """(N, h, w) and (N, K, h, w) -> (N, h, w): pixel by pixel."""
    classes = logits.argmax(dim=1)
    count, height, width = value.shape
    for radius in BORDER_WIDTHS:

        def near(n: int, y: int, x: int, reach: int) -> list[tuple[int, int]]:
            rows, columns = range(max(y - reach, 0), y + reach + 1), range(max(x - reach, 0), x + reach + 1)
            return [(v, u) for v in rows for u in columns if v < height and u < width]

        def at_border(n: int, y: int, x: int, reach: int = radius) -> bool:
            return len({int(classes[n, v, u]) for v, u in near(n, y, x, reach)}) > 1

        found = value.clone()
        for n, y, x in itertools.product(range(count), range(height), range(width)):
            beside = [value[n, v, u] for v, u in near(n, y, x, 1) if not at_border(n, v, u)]
            if at_border(n, y, x) and beside:
                found[n, y, x] = torch.stack(beside).mean()
        value = found
    return value


def opened_by_definition(value: Tensor) -> Tensor:
    """(N, h, w) float64 -> (N, h, w), by OpenCV."""
    window = np.ones((3, 3), np.uint8)
    return torch.stack([torch.from_numpy(cv2.morphologyEx(one.numpy(), cv2.MORPH_OPEN, window)) for one in value])


def definition(name: str, logits: Tensor, temperature: float) -> Tensor:
    """The score as its docstring writes it, from torch's own distributions."""
    if name.endswith(OFF_BORDERS):
        return off_borders_by_definition(definition(name.removesuffix(OFF_BORDERS), logits, temperature), logits)
    if name.endswith(OPENED):
        return opened_by_definition(definition(name.removesuffix(OPENED), logits, temperature))
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


@pytest.mark.parametrize("name", sorted(name for name in SCORES if not name.startswith(("maximum_logit", "energy"))))
def test_a_uniform_distribution_scores_one_and_a_certain_one_zero(name: str) -> None:
    logits = torch.zeros(1, 11, 3, 6)
    logits[0, 3, :, 3:] = 200.0
    expected = torch.ones(3, 6)
    expected[:, 3:] = 0.0
    torch.testing.assert_close(SCORES[name].in_unit_range(logits, 1.0)[0, 0], expected, rtol=0, atol=1e-6)


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


# Borders


def two_halves(height: int, width: int, classes: int = 4) -> Tensor:
    """Logits of a map whose left half is class 1 and whose right half is class 3: (1, K, h, w)."""
    logits = torch.zeros(1, classes, height, width)
    logits[:, 1, :, : width // 2] = 5.0
    logits[:, 3, :, width // 2 :] = 5.0
    return logits


def test_scores_at_a_border_come_from_beside_it_and_others_stay() -> None:
    logits = two_halves(9, 20)
    value = torch.full((1, 1, 9, 20), 0.2)
    value[..., 10:] = 0.6
    value[..., 8:12] = 1.0  # the border, two pixels on either side
    found = border_suppressed(value, logits)
    expected = torch.full_like(value, 0.2)
    expected[..., 10:] = 0.6
    torch.testing.assert_close(found, expected)


def test_an_object_away_from_borders_keeps_its_score_and_so_does_a_map_of_borders_alone() -> None:
    logits = two_halves(12, 24)
    value = torch.zeros(1, 1, 12, 24)
    value[..., 4:8, 2:6] = 1.0
    torch.testing.assert_close(border_suppressed(value, logits), value)
    chequered = torch.zeros(1, 2, 6, 6)
    chequered[:, 1] = 1 - 2 * (torch.arange(36).reshape(6, 6) // 6 + torch.arange(6)).remainder(2).float()
    noise = torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(border_suppressed(noise, chequered), noise)


def test_borders_between_larger_pieces_are_suppressed_as_defined() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.nn.functional.interpolate(torch.randn(2, 5, 3, 4, generator=generator), scale_factor=6.0)
    value = torch.rand(2, 1, 18, 24, generator=generator)
    expected = off_borders_by_definition(value[:, 0], logits)
    assert float((expected != value[:, 0]).float().mean()) > 0.2
    torch.testing.assert_close(border_suppressed(value, logits)[:, 0], expected)


@pytest.mark.parametrize(
    "name", ["kullback_leibler_to_uniform", *(name for name in SCORES if name.endswith((OFF_BORDERS, OPENED)))]
)
def test_the_graph_of_a_score_is_read_by_tensorrt_and_computes_it(name: str) -> None:
    torch.manual_seed(0)
    config = SegmenterConfig(
        backbone_settings={"embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]},
        decoder_channels=8,
        pooling_bins=(1,),
    )
    segmenter = LadderSegmenter(config, 5)
    for module in segmenter.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    model = DeployedSegmenter(segmenter, (64, 96), 1.0, name).eval()
    graph = onnx.load_from_string(onnx_bytes(model, {"name": "tiny"}))
    assert list(complaints(graph)) == []
    assert sum(node.op_type == "Shape" for node in graph.graph.node) == 1
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        own = model(torch.from_numpy(image))[1].numpy()
    # Where two classes are equal to the last digit, the borders are elsewhere.
    assert (np.abs(session.run(None, {"image": image})[1] - own) < 1e-4).mean() > 0.995
