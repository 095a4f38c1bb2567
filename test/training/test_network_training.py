"""Networks of transformers are trained further, with the flow and without, and become bundles like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from tensorrt_parsers import complaints
from test_train_segmenter import TINY
from tiny_joint_training import FLOW, a_batch, joint_config
from tiny_mask_networks import MASKS, mask2former, sure_of_some, write_tokenizer
from tiny_networks import LICENCE, NAMES, PER_PIXEL, decisive, dpt, saved, segformer
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames
from training.bundles.graph import MASK_SUMS
from training.calibrate import main as calibrate
from training.data.label_set import CAMVID, IGNORE
from training.evaluate import main as evaluate
from training.export import main as export
from training.import_network.__main__ import main as import_network
from training.joint.uniformity_loss import uniformity_loss
from training.save_network import main as save_network
from training.segmenter.cross_entropy import dense_cross_entropy
from training.segmenter.ladder_segmenter import SegmenterConfig
from training.segmenter.networks.network_segmenter import NetworkSegmenter, build_segmenter
from training.segmenter.trainer import build_optimiser, running_average
from training.segmenter.training_config import OptimiserConfig
from training.train_flow import main as train_flow
from training.train_joint import main as train_joint
from training.train_segmenter import main as train_segmenter

CAMVID_NAMES = [known.name for known in CAMVID]


def of_folder(folder: Path, names: Any = NAMES) -> NetworkSegmenter:
    segmenter = build_segmenter(SegmenterConfig(network=str(folder)), names)
    assert isinstance(segmenter, NetworkSegmenter)
    return segmenter


def half_folder(family: str, folder: Path) -> Path:
    """A folder whose weights are in half precision, as many on the hub are."""
    made = {**PER_PIXEL, **MASKS}[family]
    saved(lambda: made().half(), folder, {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    if family == "oneformer":
        write_tokenizer(folder)
    return folder


@pytest.mark.parametrize("family", [*PER_PIXEL, *MASKS])
def test_every_family_learns_from_both_losses_in_float32_with_two_learning_rates(family: str, tmp_path: Path) -> None:
    segmenter = of_folder(half_folder(family, tmp_path / family))
    segmenter.prepare_training()
    assert {weight.dtype for weight in segmenter.parameters()} == {torch.float32}
    optimiser = build_optimiser(segmenter, OptimiserConfig(learning_rate=0.02, encoder_factor=0.5))
    assert sorted(group["base_lr"] for group in optimiser.param_groups) == [0.01, 0.01, 0.02, 0.02]
    image, labels = a_batch()
    labels = labels % len(NAMES)
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, 16:32, 16:48] = True
    before = {name: weight.detach().clone() for name, weight in segmenter.named_parameters()}
    dense = segmenter.dense_logits(segmenter.normalise(image.float()))
    assert dense.shape == (2, len(NAMES), 64, 64)
    unsure = uniformity_loss(dense, mask, "jensen_shannon")
    assert torch.isfinite(unsure)
    (dense_cross_entropy(dense, labels.masked_fill(mask, IGNORE), torch.ones(len(NAMES))) + unsure).backward()
    optimiser.step()
    moved = {name for name, weight in segmenter.named_parameters() if not torch.equal(weight, before[name])}
    trained = {name for name, weight in segmenter.named_parameters() if weight.requires_grad}
    assert {segmenter.in_encoder(name) for name in moved} == {True, False}
    assert moved <= trained
    assert all(weight.grad is not None for weight in segmenter.parameters() if weight.requires_grad)
    # The plain values in a checkpoint build the same network again.
    again = build_segmenter(SegmenterConfig(), NAMES, json.loads(json.dumps(segmenter.encoder_settings)))
    again.load_state_dict(segmenter.state_dict())
    with torch.no_grad():
        found, expected = (one.eval()(torch.ones(1, 3, 64, 64)) for one in (again, segmenter))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_logits_of_a_masks_network_are_those_of_its_shares(tmp_path: Path) -> None:
    segmenter = of_folder(saved(lambda: sure_of_some(mask2former()), tmp_path / "masks", {})).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        sums = nn.functional.interpolate(segmenter(image), scale_factor=4, mode="bilinear")[:, :-1]
        found = segmenter.dense_logits(image).softmax(1)
    torch.testing.assert_close(found, sums / sums.sum(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_a_running_average_leaves_places_and_tokens_as_they_are() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("places", torch.arange(50_000))

    model = Counts()
    average = AveragedModel(model, multi_avg_fn=running_average(0.998), use_buffers=True)
    for step in range(3):
        model.weight.data.fill_(step)
        average.update_parameters(model)
    assert torch.equal(average.module.places, torch.arange(50_000))  # type: ignore[arg-type]
    assert 0 < average.module.weight.item() < 0.01  # type: ignore[operator, union-attr]


@pytest.fixture(scope="module")
def eleven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegFormer with a head for the classes of CamVid."""
    folder = saved(lambda: decisive(segformer()), tmp_path_factory.mktemp("eleven") / "segformer", {})
    torch.manual_seed(1)
    model = of_folder(folder, CAMVID_NAMES).model
    # A new head is small: its logits are nearly equal, and labels would hang on the rounding of each processor.
    with torch.no_grad():
        model.decode_head.classifier.weight.mul_(20.0)
    model.config.id2label = dict(enumerate(CAMVID_NAMES))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def flow(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    config: dict[str, Any] = {"name": "flow", "epochs": 1, "batch_size": 4, "flow": FLOW, "data": {"workers": 0}}
    (folder / "flow.yaml").write_text(yaml.safe_dump({**config, "augmentation": {"crop": [32, 32]}}))
    arguments = ["--config", str(folder / "flow.yaml"), "--data", str(tree), "--out", str(folder / "run")]
    assert train_flow(arguments) == 0
    return folder / "run" / "last.pt"


def joint(tree: Path, out: Path, network: Path | None, *options: str, **changes: Any) -> int:
    config = joint_config(**{"epochs": 1, "passes_per_epoch": 1, "ema_decay": 0.9, **changes})
    config["segmenter"] = {} if network is None else {"network": str(network)}
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return train_joint(["--config", str(path), "--data", str(tree), "--out", str(out), *options])


def test_a_segformer_is_trained_with_the_flow_resumed_without_its_folder_and_treated_as_any_other_bundle(
    eleven: Path, flow: Path, tree: Path, tmp_path: Path
) -> None:
    network = Path(shutil.copytree(eleven, tmp_path / "segformer"))
    assert joint(tree, tmp_path / "run", network, "--flow", str(flow)) == 0
    shutil.rmtree(network)
    assert joint(tree, tmp_path / "run", network, "--resume") == 0
    checkpoint, bundle = tmp_path / "run" / "last.pt", tmp_path / "bundle"
    sizes = ["--size", "96x128", "--size", "64x128"]
    assert export([str(checkpoint), str(bundle), "--data", str(tree), *sizes, "--with", "fp16", "int8"]) == 0
    opened = read_bundle(bundle)
    training = opened.description.training
    assert training.imported_from == "segformer, segformer of transformers"
    assert training.epochs == 1
    assert opened.description.weights_licence.startswith(f"{LICENCE}; ")
    assert [c.name for c in opened.description.classes] == CAMVID_NAMES
    assert opened.description.files == (
        "model_64x128.onnx", "model_fp16.onnx", "model_int8.onnx", "model_64x128_fp16.onnx", "model_64x128_int8.onnx",
    )  # fmt: skip
    for file in ("model.onnx", *opened.description.files):
        assert list(complaints(onnx.load(bundle / file))) == []
    data = f"camvid:{tree / 'val'}"
    assert calibrate([str(bundle), "--data", data, "--score", "entropy", "--fit", "negatives"]) == 0
    assert evaluate([str(bundle), "--data", data]) == 0
    # The network saved as a folder again is the same network.
    assert save_network([str(checkpoint), str(tmp_path / "saved")]) == 0
    options = ["--size", "96x128", "--score", "entropy"]
    assert import_network([str(tmp_path / "saved"), str(tmp_path / "again"), *options]) == 0
    frame = fixed_frames(90, 120, 1)[0][None]
    whole = read_bundle(bundle).at((96, 128))
    temperature = whole.description.score.temperature
    assert calibrate([str(tmp_path / "again"), "--data", data, "--temperature", str(temperature)]) == 0
    found, expected = (OnnxRuntimeEngine(one).run(frame) for one in (read_bundle(tmp_path / "again"), whole))
    np.testing.assert_allclose(found.anomaly_score, expected.anomaly_score, atol=1e-4)
    assert (found.semantic == expected.semantic).mean() > 0.999


def test_a_network_of_masks_is_trained_with_the_flow_and_keeps_its_scores(
    flow: Path, tree: Path, tmp_path: Path
) -> None:
    folder = saved(lambda: sure_of_some(mask2former()), tmp_path / "masks", {})
    # Its head for five classes is made anew, in a run without negatives.
    config = {**TINY, "epochs": 1, "passes_per_epoch": 1, "segmenter": {"network": str(folder)}}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(config))
    out = ["--data", str(tree), "--out", str(tmp_path / "first")]
    assert train_segmenter(["--config", str(tmp_path / "first.yaml"), *out]) == 0
    start = ["--segmenter", str(tmp_path / "first" / "last.pt"), "--flow", str(flow)]
    assert joint(tree, tmp_path / "run", folder, *start) == 0
    bundle, score = tmp_path / "bundle", ["--score", "rejected_by_all"]
    assert export([str(tmp_path / "run" / "last.pt"), str(bundle), "--data", str(tree), *score]) == 0
    opened = read_bundle(bundle)
    assert opened.description.score.name == "rejected_by_all"
    assert any(MASK_SUMS in node.output for node in onnx.load_from_string(opened.model).graph.node)
    assert calibrate([str(bundle), "--data", f"camvid:{tree / 'val'}", "--score", "ensemble_over_masks"]) == 0
    frame = fixed_frames(96, 128, 1)[0][None]
    half = replace(read_bundle(bundle), model=(bundle / "model_fp16.onnx").read_bytes())
    scores = [OnnxRuntimeEngine(one).run(frame).anomaly_score for one in (read_bundle(bundle), half)]
    assert np.abs(scores[0] - scores[1]).mean() < 1e-2


def test_what_does_not_fit_is_refused_before_training(
    eleven: Path, flow: Path, tree: Path, checkpoint: Path, bundle: Path, tmp_path: Path, capsys: Any
) -> None:
    def said(network: Path | None, *options: str, **changes: Any) -> str:
        assert joint(tree, tmp_path / "refused", network, "--flow", str(flow), *options, **changes) == 2
        return capsys.readouterr().err.splitlines()[-1]

    five = saved(segformer, tmp_path / "five", {})
    assert "weights are new and random" in said(five)
    assert "train it on this data first (training.train_segmenter)" in said(five)
    other = Path(shutil.copytree(eleven, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {str(index): f"thing {index}" for index in range(11)}
    (other / "config.json").write_text(json.dumps(config))
    assert "rename id2label in its config.json" in said(other)
    assert "the graph of a bundle does not name the weights" in said(eleven, "--segmenter", str(bundle))
    assert "holds a network of this package, and the configuration is of" in said(
        eleven, "--segmenter", str(checkpoint)
    )
    (other / "README.md").unlink()
    assert "does not say the licence of its weights; set segmenter.network_licence" in said(other)
    squares = saved(dpt, tmp_path / "dpt", {})
    assert "input_size is (96, 128); this dpt takes squares of 64 only; take 64x64" in said(squares)
    crop = {"input_size": [64, 64], "augmentation": {"crop": [96, 96]}}
    assert "augmentation.crop is (96, 96); this dpt takes squares of 64 only" in said(squares, **crop)
    assert not list((tmp_path / "refused").glob("*.pt"))


def test_save_network_takes_only_what_transformers_can_read(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert save_network([str(checkpoint), str(tmp_path / "folder")]) == 2
    assert "holds a network of this package, which transformers does not read" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert save_network([str(checkpoint), str(tmp_path / "full")]) == 2
    assert "exists and is not replaced" in capsys.readouterr().err
