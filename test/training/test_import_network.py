from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from tensorrt_parsers import complaints
from tiny_networks import LICENCE, NAMES, PER_PIXEL, decisive, saved, segformer
from torch import nn
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import Bundle, ScoreDescription, read_bundle
from ros_ood_perception.camera.image_file import images_in, read_image_file
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.inference.torch.engine import TorchEngine
from training.add_size.__main__ import main as add_size
from training.bundles.graph import LOGITS, NETWORK_INPUT
from training.bundles.precisions import share_note
from training.bundles.rescored import rescored
from training.bundles.runner import BundleRunner, LogitScore
from training.calibrate import main as calibrate
from training.import_network.__main__ import main
from training.precisions import main as precisions
from training.segmenter.anomaly_scores import SCORES

SIZE = (64, 128)
IMAGENET_MEAN, IMAGENET_STD = ("123.675", "116.28", "103.53"), ("58.395", "57.12", "57.375")


@pytest.fixture(scope="session")
def two_frames(camvid: Path) -> list[NDArray[np.uint8]]:
    """Real frames (H, W, 3) uint8."""
    return [read_image_file(path) for path in images_in(camvid / "val" / "images")[:60:30]]


def imported(source: Path, folder: Path, *options: str) -> Bundle:
    assert main([str(source), str(folder), *options]) == 0
    return read_bundle(folder)


def network_input(
    frame: NDArray[np.uint8], size: tuple[int, int], mean: Any, std: Any, bgr: bool = False
) -> torch.Tensor:
    """As the source's own processor prepares it, at the bundle's size."""
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(pixels, size=size, mode="bilinear")
    normalised = (resized - torch.tensor([*mean]).view(1, 3, 1, 1)) / torch.tensor([*std]).view(1, 3, 1, 1)
    return normalised.flip(1) if bgr else normalised


def same_as(bundle: Bundle, frames: list[NDArray[np.uint8]], model: Any, mean: Any, std: Any, bgr: bool) -> None:
    """The graph of a bundle of one size gives the classes and the score of the network's own forward pass."""
    engine, size = OnnxRuntimeEngine(bundle), bundle.description.input.size
    spread, classes_there = [], set()
    for frame in frames:
        with torch.no_grad():
            logits = model(pixel_values=network_input(frame, size, mean, std, bgr)).logits
            classes = functional.interpolate(logits, size=size, mode="bilinear").argmax(1)
            if model.config.model_type == "upernet":  # it up-samples its logits itself
                logits = model.decode_head(model.backbone(network_input(frame, size, mean, std)).feature_maps)
            small = SCORES[bundle.description.score.name].in_unit_range(logits, 1.0)
            score = functional.interpolate(small, size=size, mode="bilinear")[:, 0]
        found = engine.run(frame[None])
        assert (found.semantic == classes.numpy()).mean() >= 0.999
        np.testing.assert_allclose(found.anomaly_score, score.numpy(), rtol=0, atol=1e-4)
        spread.append(np.ptp(found.anomaly_score))
        classes_there.update(np.unique(found.semantic).tolist())
    assert len(classes_there) > 1
    assert min(spread) > 0.002  # else the comparison would say nothing


@pytest.mark.parametrize("family", [family for family in PER_PIXEL if family != "segformer"])
def test_a_folder_of_transformers_becomes_a_bundle_that_computes_the_same(
    family: str, tmp_path: Path, two_frames: list[NDArray[np.uint8]]
) -> None:
    from transformers import AutoModelForSemanticSegmentation

    bgr = family.startswith("mobilevit")
    mean, std = ([0.0] * 3, [255.0] * 3) if bgr else ([127.5] * 3, [127.5] * 3)
    processing = {"do_flip_channel_order": True} if bgr else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    source = saved(lambda: decisive(PER_PIXEL[family]()), tmp_path / family, processing)
    bundle = imported(source, tmp_path / "bundle", "--size", "64x128")
    description = bundle.description
    assert [c.name for c in description.classes] == list(NAMES)
    assert [c.name for c in description.classes if c.drivable] == ["road"]
    assert description.weights_licence == LICENCE
    assert description.training.imported_from is not None
    assert {m.metric for m in description.training.measurements} == {
        "label agreement with the source", "largest score difference from the source",
    }  # fmt: skip
    graph = onnx.load_from_string(bundle.model)
    assert not {"If", "Loop", "NonZero", "ScatterND"} & {node.op_type for node in graph.graph.node}
    assert sum(node.op_type == "Shape" for node in graph.graph.node) == 1
    assert list(complaints(graph)) == []
    model = AutoModelForSemanticSegmentation.from_pretrained(source, dtype=torch.float32).eval()
    same_as(bundle, two_frames, model, mean, std, bgr)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegFormer whose card, classes and preprocessing say all that an import needs."""
    return saved(lambda: decisive(segformer()), tmp_path_factory.mktemp("source") / "segformer", {})


@pytest.fixture(scope="module")
def whole(source: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle with every precision, compared on frames of a data set, whose classes it is given."""
    from training.data.label_set import CAMVID

    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(1)
    model = copy.deepcopy(segformer())
    model.config.num_labels = 11
    model.decode_head.classifier = nn.Conv2d(16, 11, 1)
    model.decode_head.classifier.weight.data *= 40
    model.save_pretrained(folder / "eleven")
    classes = folder / "classes.yaml"
    classes.write_text(yaml.safe_dump({"classes": [{"name": c.name, "drivable": c.drivable} for c in CAMVID]}))
    data = ("--data", f"camvid:{tree}@val", "--calibration", f"camvid:{tree}@train", "--with", "fp16", "int8")
    options = ("--classes", str(classes), "--licence", "own", "--size", "64x128", *data)
    imported(folder / "eleven", folder / "bundle", *options)
    return folder / "bundle"


def test_every_precision_is_there_and_is_half_or_quantised_inside_the_network(whole: Path) -> None:
    opened = read_bundle(whole)
    assert "--data camvid:camvid@val" in opened.description.training.measurements[0].command
    assert [v.precision for v in opened.description.variants] == ["fp16", "int8"]
    assert all("camvid (val), 6 frames" in v.measured_on for v in opened.description.variants)
    assert re.fullmatch(r"int8 quantises the convolutions, [1-9]\d% of this .* stay float32", share_note(opened))
    for file in ("model.onnx", "model_fp16.onnx", "model_int8.onnx"):
        assert list(complaints(onnx.load(whole / file))) == []
    half = onnx.load(whole / "model_fp16.onnx")
    types = {t.name: t.data_type for t in half.graph.initializer}
    products = [n for n in half.graph.node if n.op_type in ("Conv", "MatMul", "LayerNormalization")]
    stored = {types[name] for node in products for name in node.input if name in types}
    assert stored == {onnx.TensorProto.FLOAT16}
    frame = fixed_frames(*SIZE, 1)[0][None]
    expected = OnnxRuntimeEngine(opened).run(frame).anomaly_score
    found = TorchEngine(opened, "fp32", "cpu").run(frame).anomaly_score
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_imported_bundle_is_calibrated_rescored_and_measured_like_any_other(
    whole: Path, tree: Path, tmp_path: Path
) -> None:
    data, out = f"camvid:{tree / 'val'}", tmp_path / "calibrated"
    assert calibrate([str(whole), "--data", data, "--out", str(out), "--score", "entropy", "--temperature", "2"]) == 0
    opened = read_bundle(out)
    assert opened.description.score.name == "entropy"
    assert opened.description.training.imported_from == read_bundle(whole).description.training.imported_from
    assert "drivable_fpr_0.01" in [p.name for p in opened.description.operating_points]
    frame = fixed_frames(*SIZE, 1)[0][None]
    scores = [
        OnnxRuntimeEngine(replace(opened, model=(out / file).read_bytes())).run(frame).anomaly_score
        for file in ("model.onnx", "model_fp16.onnx", "model_int8.onnx")
    ]
    assert np.abs(scores[0] - OnnxRuntimeEngine(read_bundle(whole)).run(frame).anomaly_score).max() > 0.01
    assert max(np.abs(score - scores[0]).mean() for score in scores[1:]) < 0.05
    runner = BundleRunner(opened, "onnxruntime", [LogitScore("energy", 1.0)])
    size = runner.perceive(frame[0]).frame_size
    energy = OnnxRuntimeEngine(rescored(opened, ScoreDescription("energy", 1.0))).run(frame).anomaly_score
    np.testing.assert_allclose(runner.other_score(runner.scores[0], size), energy[0], atol=1e-5)
    confidence = runner.confidence(size)
    assert confidence is not None
    assert 0 < confidence.min() < confidence.max() <= 1


def test_a_score_of_masks_is_refused_for_a_network_of_logits(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(tmp_path / "b"), "--score", "rejected_by_all"]) == 2
    assert "'rejected_by_all' does not suit a network that gives logits and no masks" in capsys.readouterr().err


def test_a_network_is_imported_at_several_sizes_and_gets_precisions_at_each_without_a_configuration(
    source: Path, two_frames: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForSemanticSegmentation

    bundle = imported(source, tmp_path / "b", "--size", "70x60", "--size", "32x64")
    said = capsys.readouterr().out
    assert "--size 70x60 became 64x64: height and width are multiples of 32" in said
    assert "64x64 compared with the source on noise" in said
    assert "32x64 compared with the source on noise" in said
    assert bundle.description.input.sizes == ((64, 64), (32, 64))
    assert [c.name for c in bundle.description.classes] == list(NAMES)
    assert {m.data for m in bundle.description.training.measurements} == {
        "noise, 2 frames", "noise, 2 frames at 32x64",
    }  # fmt: skip
    model = AutoModelForSemanticSegmentation.from_pretrained(source, dtype=torch.float32).eval()
    for size in bundle.description.input.sizes:
        mean, std = ([float(v) for v in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
        same_as(bundle.at(size), two_frames[:1], model, mean, std, False)
    assert precisions([str(bundle.folder), "--with", "fp16"]) == 0
    opened = read_bundle(bundle.folder)
    assert opened.description.files == ("model_32x64.onnx", "model_fp16.onnx", "model_32x64_fp16.onnx")
    for file in opened.description.files:
        assert list(complaints(onnx.load(bundle.folder / file))) == []
    assert add_size([str(bundle.folder), "--size", "64x96"]) == 2
    assert "the network was imported, and its graph holds for one size; import it again" in capsys.readouterr().err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("import_network: ")
    assert not Path(arguments[1]).exists()
    return said


def test_a_classifier_is_refused_with_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import SegformerForImageClassification

    SegformerForImageClassification(segformer().config).save_pretrained(tmp_path / "classifier")
    said = refused([str(tmp_path / "classifier"), str(tmp_path / "b"), "--licence", "own"], capsys)
    assert "without a segmentation head" in said
    assert "weights are missing" in said


def test_a_name_without_a_hub_is_refused_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = refused(["nobody/no-network", str(tmp_path / "b")], capsys)
    assert "nobody/no-network is neither a folder that transformers reads nor a name on a hub" in said
    assert "--local-dir FOLDER" in said


def test_what_a_folder_does_not_say_is_asked_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    assert "give --licence TEXT" in refused([str(folder), str(tmp_path / "b")], capsys)
    torch.manual_seed(0)
    segformer().save_pretrained(tmp_path / "bare")  # its classes are LABEL_0 ...
    assert "give --classes FILE" in refused([str(tmp_path / "bare"), str(tmp_path / "b"), "--licence", "own"], capsys)
    one = segformer().config
    one.num_labels = 1
    type(segformer())(one).save_pretrained(tmp_path / "one")
    said = refused([str(tmp_path / "one"), str(tmp_path / "b"), "--licence", "own"], capsys)
    assert "the network has 1 class channel(s) and a bundle has 2 to 254" in said


def test_a_damaged_folder_is_refused_with_the_file_that_is_wrong(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    def said(**files: Any) -> str:
        folder = Path(shutil.copytree(source, tmp_path / "damaged", dirs_exist_ok=True))
        for name, change in files.items():
            path = folder / f"{name}.json"
            path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
        return refused([str(folder), str(tmp_path / "b"), "--size", "64x64"], capsys)

    assert "config.json: hidden_sizes is 1000000000, more than 1,000,000" in said(config={"hidden_sizes": [10**9] * 4})
    assert "depths is 20000, more than 1,000" in said(config={"depths": [20000, 1, 1, 1]})
    large = {"hidden_sizes": [8, 16, 24, 20_000]}
    assert "million weights, which takes more than the 512 MB" in said(config=large)
    wide = {"hidden_sizes": [16, 16, 24, 32]}
    assert "does not have" in said(config=wide)
    assert "weights as the segformer of its config.json needs them" in said(config=wide)
    assert "config.json cannot be read by transformers" in said(config={"hidden_sizes": "wide"})
    assert "config.json cannot be read by transformers" in said(config="[" * 100_000)
    code = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    assert "contains custom code" in said(config=code)
    gaps = {str(3 * index): name for index, name in enumerate(NAMES)}
    assert "numbers its classes 0, 3, 6, 9, 12" in said(config={"id2label": gaps})
    assert "preprocessor_config.json cannot be read" in said(preprocessor_config="[]")
    means = {"image_mean": [1e300] * 3, "image_std": [0.5] * 3}
    assert "preprocessor_config.json has no usable mean" in said(preprocessor_config=means)
    weights = load_file(source / "model.safetensors")
    name = "decode_head.classifier.bias"
    for change, expected in (
        ({name: weights[name] * float("nan")}, "has weights that are infinite or no numbers"),
        ({name: weights[name][:3].clone()}, "does not have 1 weights as the segformer of its config.json needs them"),
    ):
        shutil.rmtree(tmp_path / "damaged")
        folder = Path(shutil.copytree(source, tmp_path / "damaged"))
        save_file(weights | change, folder / "model.safetensors", metadata={"format": "pt"})
        assert expected in refused([str(folder), str(tmp_path / "b"), "--size", "64x64"], capsys)
    assert "at most 33554432 pixels are possible" in refused(
        [str(source), str(tmp_path / "b"), "--size", "16384x16384"], capsys
    )


class Convolutions(nn.Module):
    """A network of a user: logits at a fifth of the input, with a layer that no bundle has as it is."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=5), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, classes, 3, padding=1)
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)


def onnx_file(
    path: Path, module: nn.Module, size: tuple[int, int] = (60, 100), axes: Any = None, opset: int = 17
) -> Path:
    torch.manual_seed(0)
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            layer.running_var.uniform_(0.5, 2.0)
    torch.onnx.export(
        module, (torch.zeros(1, 3, *size),), str(path), opset_version=opset, dynamo=False, input_names=["x"],
        output_names=["y"], dynamic_axes={"x": {0: "batch"}} if axes is None else axes,
    )  # fmt: skip
    return path


@pytest.fixture
def said_all(tmp_path: Path) -> list[str]:
    """What an ONNX file does not say about itself."""
    classes = tmp_path / "classes.yaml"
    listed = [{"name": "road", "drivable": True}, {"name": "sky", "colour": [1, 2, 3]}, {"name": "thing"}]
    classes.write_text(yaml.safe_dump({"classes": listed}))
    normalisation = ("--mean", *IMAGENET_MEAN, "--std", *IMAGENET_STD, "--channel-order", "bgr")
    return ["--classes", str(classes), "--licence", "own", *normalisation]


@pytest.mark.parametrize(("size", "opset", "axes"), [((60, 100), 17, None), ((62, 101), 13, {})])
def test_an_onnx_file_of_logits_at_any_stride_becomes_a_bundle(
    size: tuple[int, int], opset: int, axes: Any, said_all: list[str], tmp_path: Path
) -> None:
    path, module = tmp_path / "net.onnx", Convolutions()
    onnx_file(path, module, size, axes, opset)
    bundle = imported(path, tmp_path / "b", *said_all, "--with", "fp16", "--score", "entropy", "--fit", "letterbox")
    description = bundle.description
    assert (description.input.size, description.input.fit) == (size, "letterbox")
    assert [(c.name, c.colour, c.drivable) for c in description.classes][1] == ("sky", (1, 2, 3), False)
    assert description.drivable_ids == (0,)
    frames = np.stack(fixed_frames(90, 120, 2))
    found = OnnxRuntimeEngine(bundle).run(frames)
    mean, std = ([float(v) for v in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = torch.cat([network_input(frame, size, mean, std, bgr=True) for frame in frames])
    with torch.no_grad():
        logits = functional.interpolate(module(pixels), size=size, mode="bilinear")
    assert (found.semantic == logits.argmax(1).numpy()).mean() >= 0.999
    made = {name for node in onnx.load_from_string(bundle.model).graph.node for name in node.output}
    assert {LOGITS, NETWORK_INPUT} <= made


def test_an_onnx_file_that_cannot_be_a_bundle_is_refused_with_the_cure(
    said_all: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "b")

    def said(path: Path, options: list[str] = said_all) -> str:
        return refused([str(path), target, *options], capsys)

    good = onnx_file(tmp_path / "good.onnx", Convolutions())
    assert "give --mean and --std" in said(good, said_all[:4])
    assert "give --licence" in said(good, [*said_all[:2], *said_all[4:]])
    assert "give --classes FILE" in said(good, said_all[2:])
    dynamic = onnx_file(tmp_path / "dynamic.onnx", Convolutions(), axes={"x": {0: "N", 2: "H", 3: "W"}})
    assert "dynamic height or width; export it with a fixed height and width" in said(dynamic)
    one = onnx_file(tmp_path / "one.onnx", Convolutions(1))
    assert "1 class channel(s)" in said(one)
    classes = onnx_file(tmp_path / "ids.onnx", nn.Sequential(Convolutions(), nn.Flatten(2)))
    assert "before softmax and argmax" in said(classes)
    model = onnx.load(good)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, tmp_path / "custom.onnx")
    assert "the custom operator com.example." in said(tmp_path / "custom.onnx")
    sizes = ["--size", "60x100", "--size", "60x200"]
    assert "two of the sizes 60x100, 60x100 are the same" in said(good, [*said_all, *sizes])
    assert "--size 60x200 became 60x100: the file fixes the size of its input" in said(good, [*said_all, *sizes])
    (tmp_path / "text.onnx").write_text("no network")
    assert "no valid ONNX file" in said(tmp_path / "text.onnx")
    assert "no such file or folder" in said(tmp_path / "absent.onnx")


def test_a_graph_with_the_contract_of_a_bundle_is_wrapped(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "from_bundle"))  # with a variant, which goes
    wrapped = imported(bundle, folder, "--drivable", "car")
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.yaml", "model.onnx"]
    assert wrapped.description.weights_licence == read_bundle(bundle).description.weights_licence
    assert [c.name for c in wrapped.description.classes if c.drivable] == ["car"]
    (tmp_path / "bare").mkdir()
    shutil.copy(bundle / "model.onnx", tmp_path / "bare" / "model.onnx")
    assert main([str(tmp_path / "bare"), str(tmp_path / "b")]) == 2
    assert main([str(bundle), str(tmp_path / "b"), "--size", "64x64"]) == 2
    again = imported(wrapped.folder, tmp_path / "again", "--fit", "letterbox")
    assert (wrapped.description.input.fit, again.description.input.fit) == ("stretch", "letterbox")
    kept = imported(again.folder, tmp_path / "kept")
    assert kept.description.input.fit == "letterbox"
    frame = fixed_frames(96, 128, 1)[0][None]
    engines = [OnnxRuntimeEngine(b) for b in (wrapped, read_bundle(bundle))]
    first, second = (engine.run(frame) for engine in engines)
    np.testing.assert_array_equal(first.anomaly_score, second.anomaly_score)
