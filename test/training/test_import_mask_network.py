from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from tensorrt_parsers import complaints
from test_import_network import imported, network_input, refused, two_frames
from tiny_mask_networks import MASKS, eomt, sure_of_some, write_tokenizer
from tiny_networks import NAMES, saved
from torch import Tensor
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import Bundle, ScoreDescription
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.inference.torch.engine import TorchEngine
from training.bundles.graph import LOGITS, MASK_SUMS
from training.bundles.rescored import rescored
from training.bundles.runner import BundleRunner, LogitScore
from training.segmenter.networks.mask_networks import task_tokens

__all__ = ["two_frames"]

SIZE = (64, 128)
ZERO_TO_ONE = {"image_mean": [0.0], "image_std": [1.0]}
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def sums_by_hand(found: Any, masks: Tensor) -> Tensor:
    """L_k as the semantic inference of the reference: (1, K, h, w)."""
    probabilities = found.class_queries_logits.softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", probabilities, masks.sigmoid())


def reference(model: Any, pixels: Tensor, task: dict[str, Tensor]) -> Tensor:
    """L_k of the unchanged network: at the masks' resolution, or with EoMT's own windows at the input's."""
    if not model.config.model_type.startswith("eomt"):
        found = model(pixel_values=pixels, **task)
        return sums_by_hand(found, found.masks_queries_logits)
    from transformers.image_utils import SizeDict
    from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

    processor = EomtImageProcessorPil()
    patches, offsets = processor._split_image(pixels[0].numpy(), SizeDict(shortest_edge=64), 0)
    found = model(pixel_values=torch.from_numpy(np.stack(patches)))
    masks = functional.interpolate(found.masks_queries_logits, size=(64, 64), mode="bilinear")
    size = {"shortest_edge": 64, "longest_edge": None}
    [merged] = processor.merge_image_patches(sums_by_hand(found, masks), offsets, [tuple(pixels.shape[2:])], size)
    return merged[None]


@pytest.fixture(scope="module")
def of_masks(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An EoMT at two sizes: windows that overlap, and one window."""
    folder = tmp_path_factory.mktemp("masks")
    source = saved(lambda: sure_of_some(eomt()), folder / "eomt", ZERO_TO_ONE)
    (source / "preprocessor_config.json").unlink()  # its family's normalisation
    sizes = ("--size", "64x100", "--size", "64x64")
    return imported(source, folder / "bundle", *sizes, "--with", "fp16", "--drivable", NAMES[1])


def check_graph_of_masks(bundle: Bundle) -> None:
    assert bundle.description.score.name == "rejected_by_all"
    assert "share of pixels that no mask claims" in {m.metric for m in bundle.description.training.measurements}
    graph = onnx.load_from_string(bundle.model)
    assert not {"If", "Loop", "NonZero", "ScatterND", "Einsum"} & {node.op_type for node in graph.graph.node}
    assert list(complaints(graph)) == []


def same_as(bundle: Bundle, frames: list[NDArray[np.uint8]], source: Path, task: dict[str, Tensor]) -> None:
    """The graph of a bundle of one size gives the classes and the score of the network's own forward pass."""
    from transformers import AutoModelForUniversalSegmentation

    model = AutoModelForUniversalSegmentation.from_pretrained(source, dtype=torch.float32).eval()
    engine, size = OnnxRuntimeEngine(bundle), bundle.description.input.size
    for frame in frames:
        with torch.no_grad():
            sums = reference(model, network_input(frame, size, MEAN, STD), task)
            dense = functional.interpolate(sums, size=size, mode="bilinear")
            score = functional.interpolate((-sums.tanh().sum(1, keepdim=True)).exp(), size=size, mode="bilinear")
        found = engine.run(frame[None])
        np.testing.assert_allclose(found.anomaly_score, score[:, 0].numpy(), rtol=0, atol=2e-3)
        claimed = dense.sum(1).numpy() >= 0.5
        assert claimed.any()
        assert (found.semantic == dense.argmax(1).numpy())[claimed].mean() >= 0.999
        assert np.ptp(found.anomaly_score) > 1e-3


@pytest.mark.parametrize("family", [family for family in MASKS if family != "eomt"])
def test_a_network_of_masks_becomes_a_bundle_that_computes_the_same(
    family: str, tmp_path: Path, two_frames: list[NDArray[np.uint8]]
) -> None:
    source = saved(lambda: sure_of_some(MASKS[family]()), tmp_path / family, ZERO_TO_ONE)
    (source / "preprocessor_config.json").unlink()
    task = {}
    if family == "oneformer":
        write_tokenizer(source)
        task["task_inputs"] = task_tokens(str(source), 77)
        assert len(set(task["task_inputs"][0, :5].tolist())) == 5  # the begin, and four words that it knows
    size = (64, 100) if family.startswith("eomt") else SIZE  # windows that overlap
    bundle = imported(source, tmp_path / "bundle", "--size", f"{size[0]}x{size[1]}")
    assert bundle.description.input.size == size
    check_graph_of_masks(bundle)
    same_as(bundle, two_frames, source, task)


def test_an_eomt_computes_the_same_at_each_of_its_sizes(of_masks: Bundle, two_frames: list[NDArray[np.uint8]]) -> None:
    assert of_masks.description.input.sizes == ((64, 100), (64, 64))
    for size in of_masks.description.input.sizes:
        check_graph_of_masks(of_masks.at(size))
        same_as(of_masks.at(size), two_frames[:1], of_masks.folder.parent / "eomt", {})


def test_its_score_is_changed_to_any_that_suits_it_at_each_size(of_masks: Bundle) -> None:
    names = ("ensemble_over_masks", "entropy")
    runner = BundleRunner(of_masks, "onnxruntime", [LogitScore(name, 1.0) for name in names])
    changed = [rescored(of_masks, ScoreDescription(name, 1.0)) for name in names]
    back = rescored(changed[1], of_masks.description.score)
    for frame_size, size in (((90, 140), (64, 100)), ((90, 90), (64, 64))):
        graph = onnx.load_from_string(of_masks.at(size).model)
        assert {LOGITS, MASK_SUMS} <= {name for node in graph.graph.node for name in node.output}
        frame = fixed_frames(*frame_size, 1)[0]
        own = runner.perceive(frame).anomaly_score
        assert runner.values("ensemble_over_masks").shape == (len(NAMES) + 1, *size)
        for score, bundle in zip(runner.scores, changed, strict=True):
            found = BundleRunner(bundle, "onnxruntime").perceive(frame).anomaly_score
            assert np.abs(found - own).max() > 1e-3
            np.testing.assert_allclose(found, runner.other_score(score, frame_size), atol=1e-5)
        np.testing.assert_allclose(BundleRunner(back, "onnxruntime").perceive(frame).anomaly_score, own, atol=1e-6)


def test_torch_and_half_precision_compute_the_same(of_masks: Bundle) -> None:
    frame = fixed_frames(*SIZE, 1)[0][None]
    expected = OnnxRuntimeEngine(of_masks.at((64, 100))).run(frame).anomaly_score
    found = TorchEngine(of_masks.at((64, 100)), "fp32", "cpu").run(frame).anomaly_score
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert of_masks.description.files == ("model_64x64.onnx", "model_fp16.onnx", "model_64x64_fp16.onnx")
    for file in of_masks.description.files:
        assert list(complaints(onnx.load(of_masks.folder / file))) == []


def test_an_eomt_with_mask_attention_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def in_training() -> Any:
        model = eomt()
        model.attn_mask_probs.fill_(0.5)
        return model

    source = saved(in_training, tmp_path / "eomt")
    assert "its mask attention is not annealed to 0" in refused([str(source), str(tmp_path / "b")], capsys)
