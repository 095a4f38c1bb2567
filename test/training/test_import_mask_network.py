from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from tensorrt_parsers import complaints
from test_import_network import imported, network_input, refused, three_frames
from tiny_mask_networks import MASKS, eomt, sure_of_some, write_tokenizer
from tiny_networks import NAMES, saved
from torch import Tensor
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.inference.torch.engine import TorchEngine
from training.bundles.graph import LOGITS, MASK_SUMS
from training.bundles.rescored import rescored
from training.importing.mask_networks import task_tokens

__all__ = ["three_frames"]

SIZE = (64, 128)
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


@pytest.mark.parametrize("family", MASKS)
def test_a_network_of_masks_becomes_a_bundle_that_computes_the_same(
    family: str, tmp_path: Path, three_frames: list[NDArray[np.uint8]]
) -> None:
    from transformers import AutoModelForUniversalSegmentation

    source = saved(lambda: sure_of_some(MASKS[family]()), tmp_path / family, {"image_mean": [0.0], "image_std": [1.0]})
    (source / "preprocessor_config.json").unlink()  # its family's normalisation
    task = {}
    if family == "oneformer":
        write_tokenizer(source)
        task["task_inputs"] = task_tokens(str(source), 77)
        assert len(set(task["task_inputs"][0, :5].tolist())) == 5  # the begin, and four words that it knows
    size = (64, 100) if family.startswith("eomt") else SIZE  # windows that overlap
    bundle = imported(source, tmp_path / "bundle", "--size", f"{size[0]}x{size[1]}")
    assert bundle.description.input.size == size
    assert bundle.description.score.name == "rejected_by_all"
    assert "share of pixels that no mask claims" in {m.metric for m in bundle.description.training.measurements}
    graph = onnx.load_from_string(bundle.model)
    assert not {"If", "Loop", "NonZero", "ScatterND", "Einsum"} & {node.op_type for node in graph.graph.node}
    assert list(complaints(graph)) == []
    model = AutoModelForUniversalSegmentation.from_pretrained(source, dtype=torch.float32).eval()
    engine = OnnxRuntimeEngine(bundle)
    for frame in three_frames:
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


@pytest.fixture(scope="module")
def of_masks(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("masks")
    source = saved(lambda: sure_of_some(eomt()), folder / "eomt")
    return imported(source, folder / "bundle", "--with", "fp16", "--drivable", NAMES[1])


def test_its_score_is_changed_to_any_that_suits_it(of_masks: Bundle) -> None:
    frame = fixed_frames(*SIZE, 1)[0][None]
    graph = onnx.load_from_string(of_masks.model)
    made = {name for node in graph.graph.node for name in node.output}
    assert {LOGITS, MASK_SUMS} <= made
    scores = {}
    for name in ("rejected_by_all", "ensemble_over_masks", "entropy"):
        changed = rescored(of_masks, type(of_masks.description.score)(name, 1.0))
        scores[name] = OnnxRuntimeEngine(changed).run(frame).anomaly_score
    assert np.abs(scores["rejected_by_all"] - scores["ensemble_over_masks"]).max() > 1e-3
    assert np.abs(scores["rejected_by_all"] - scores["entropy"]).max() > 1e-3
    back = rescored(changed, of_masks.description.score)
    found = OnnxRuntimeEngine(back).run(frame).anomaly_score
    np.testing.assert_allclose(found, scores["rejected_by_all"], atol=1e-6)


def test_torch_and_half_precision_compute_the_same(of_masks: Bundle) -> None:
    frame = fixed_frames(*SIZE, 1)[0][None]
    expected = OnnxRuntimeEngine(of_masks).run(frame).anomaly_score
    found = TorchEngine(of_masks, "fp32", "cpu").run(frame).anomaly_score
    np.testing.assert_allclose(found, expected, atol=1e-4)
    opened = read_bundle(of_masks.folder)
    assert [v.precision for v in opened.description.variants] == ["fp16"]
    assert list(complaints(onnx.load(of_masks.folder / "model_fp16.onnx"))) == []


def test_an_eomt_with_mask_attention_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def in_training() -> Any:
        model = eomt()
        model.attn_mask_probs.fill_(0.5)
        return model

    source = saved(in_training, tmp_path / "eomt")
    assert "its mask attention is not annealed to 0" in refused([str(source), str(tmp_path / "b")], capsys)
