from __future__ import annotations

from collections.abc import Callable
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

from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, BundleError, read_bundle
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.inference.torch.engine import TorchEngine
from training.bundles import precisions
from training.bundles.export import deployed_segmenter
from training.bundles.fold_batch_norms import folded
from training.bundles.graph_form.up_sampled_classes import UP_SAMPLING
from training.bundles.precisions import VARIANTS, half_network
from training.calibrate import main as calibrate
from training.export import main as export
from training.precisions import main
from training.runs.checkpoint import load_checkpoint

ONNX_FILES = ("model.onnx", "model_fp16.onnx", "model_int8.onnx")


@pytest.fixture(scope="module")
def whole(whole_bundle: Path) -> Path:
    return whole_bundle


def graph_of(folder: Path, file: str) -> onnx.ModelProto:
    return onnx.load(folder / file)


def test_every_variant_is_in_the_description_with_what_was_measured(whole: Path) -> None:
    variants = read_bundle(whole).description.variants
    assert [(v.format, v.precision, v.file) for v in variants] == [("onnx", n, f"model_{n}.onnx") for n in VARIANTS]
    assert all(v.label_agreement > 0.95 and 0 <= v.score_difference < 0.02 for v in variants)
    assert all("CamVid (val), 6 frames" in v.measured_on for v in variants)


@pytest.mark.parametrize("file", ONNX_FILES)
def test_no_parser_of_tensorrt_refuses_the_graph(whole: Path, file: str) -> None:
    assert list(complaints(graph_of(whole, file))) == []


def shipped_graphs() -> list[Path]:
    return sorted((Path(__file__).resolve().parents[2] / "models").glob("*/*.onnx"))


@pytest.mark.parametrize("path", shipped_graphs(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_parser_of_tensorrt_refuses_a_graph_that_ships(path: Path) -> None:
    assert list(complaints(onnx.load(path))) == []


def _set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _uint8_between(model: onnx.ModelProto) -> None:
    [cast] = [node for node in model.graph.node if "image" in node.input]
    cast.attribute[0].i = onnx.TensorProto.UINT8
    [transpose] = [node for node in model.graph.node if cast.output[0] in node.input]
    model.graph.node.insert(2, onnx.helper.make_node("Cast", [transpose.output[0]], ["again"], "again", to=1))
    for node in list(model.graph.node)[3:]:
        for index, name in enumerate(node.input):
            if name == transpose.output[0]:
                node.input[index] = "again"


def _reduce_over_all(model: onnx.ModelProto) -> None:
    [node] = [node for node in model.graph.node if node.op_type == "ReduceMax"]
    del node.attribute[0]


def _cubic(model: onnx.ModelProto) -> None:
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    next(a for a in resize.attribute if a.name == "mode").s = b"cubic"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_set_opset, "opsets"),
        (_uint8_between, "uint8 between nodes"),
        (_reduce_over_all, "no axes in its attributes"),
        (_cubic, "mode b'cubic'"),
    ],
)
def test_what_a_parser_refuses_is_found(bundle: Path, spoil: Callable[[onnx.ModelProto], None], complaint: str) -> None:
    model = graph_of(bundle, "model.onnx")
    spoil(model)
    assert any(complaint in line for line in complaints(model))


def test_an_asymmetric_quantisation_is_found(whole: Path) -> None:
    model = graph_of(whole, "model_int8.onnx")
    zero = next(t for t in model.graph.initializer if t.name.endswith("zero_point"))
    array = onnx.numpy_helper.to_array(zero).copy()
    array[...] = 3
    zero.CopyFrom(onnx.numpy_helper.from_array(array, zero.name))
    assert any("not symmetric int8" in line for line in complaints(model))


def test_in_the_half_graph_the_network_is_half_and_the_score_is_not(whole: Path) -> None:
    model = graph_of(whole, "model_fp16.onnx")
    half = onnx.TensorProto.FLOAT16
    weights = {t.name: t.data_type for t in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and UP_SAMPLING not in node.input]
    assert weights[UP_SAMPLING] == onnx.TensorProto.FLOAT
    assert {weights[name] for node in convolutions for name in node.input[1:]} == {half}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    after = [node for node in model.graph.node if node.op_type in ("Exp", "Log", "ReduceSum", "ReduceMax", "ArgMax")]
    assert {types[node.output[0]] for node in after if node.op_type != "ArgMax"} == {onnx.TensorProto.FLOAT}
    assert types["logits"] == half
    assert types["anomaly"] == types[ANOMALY_AT_LOGITS] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("file", ONNX_FILES)
def test_the_score_before_up_sampling_has_a_name_and_a_sixteenth_of_the_pixels(whole: Path, file: str) -> None:
    model = graph_of(whole, file)
    model.graph.output.append(onnx.helper.make_tensor_value_info(ANOMALY_AT_LOGITS, onnx.TensorProto.FLOAT, None))

    class WithSmall(OnnxRuntimeEngine):
        outputs = OnnxRuntimeEngine.outputs | {ANOMALY_AT_LOGITS: "tensor(float)"}

    engine = WithSmall(replace(read_bundle(whole), model=model.SerializeToString()))
    _, large, small = engine._run(fixed_frames(120, 160, 1)[0][None])
    assert small.shape == (1, 1, large.shape[1] // 4, large.shape[2] // 4)


@pytest.mark.parametrize("file", ONNX_FILES)
def test_a_variant_holds_no_trace_of_the_machine_that_made_it(whole: Path, file: str) -> None:
    contents = (whole / file).read_bytes()
    assert b".py" not in contents
    assert b"site-packages" not in contents
    assert str(Path.home()).encode() not in contents


def test_folding_keeps_what_the_network_computes(checkpoint: Path) -> None:
    network = deployed_segmenter(load_checkpoint(checkpoint), None, 1.0).segmenter
    image = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(folded(network, image)(image), network(image), atol=1e-4, rtol=1e-4)
    assert not [m for m in folded(network, image).modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_calibration_sets_the_temperature_of_every_variant(whole: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "hot"
    data = f"camvid:{tree / 'val'}"
    assert calibrate([str(whole), "--data", data, "--out", str(out), "--temperature", "3"]) == 0
    opened = read_bundle(out)
    assert len(opened.description.variants) == len(VARIANTS)
    frame = fixed_frames(96, 128, 1)[0][None]
    expected = OnnxRuntimeEngine(opened).run(frame).anomaly_score
    cold = OnnxRuntimeEngine(read_bundle(whole)).run(frame).anomaly_score
    assert np.abs(expected - cold).max() > 0.1
    for file in ("model_fp16.onnx", "model_int8.onnx"):
        engine = OnnxRuntimeEngine(replace(opened, model=(out / file).read_bytes()))
        assert np.abs(engine.run(frame).anomaly_score - expected).mean() < 0.02
    for precision in ("fp32", "fp16"):
        score = TorchEngine(opened, precision, "cpu").run(frame).anomaly_score
        assert np.abs(score - expected).mean() < 0.02


def test_variants_made_from_the_bundle_equal_those_made_from_the_checkpoint(
    whole: Path, checkpoint: Path, tree: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "bare", tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    assert export([str(checkpoint), str(folder), "--data", str(tree), "--with"]) == 0
    assert read_bundle(folder).description.variants == ()
    data = f"camvid:{tree}"
    command = [str(folder), "--config", str(config), "--data", f"{data}@val", "--calibration", f"{data}@train"]
    assert main([*command, "--with", *VARIANTS]) == 0
    opened = read_bundle(folder)
    assert [v.file for v in opened.description.variants] == [f"model_{name}.onnx" for name in VARIANTS]
    frame = fixed_frames(96, 128, 1)[0][None]
    engines = [OnnxRuntimeEngine(replace(opened, model=(f / "model_fp16.onnx").read_bytes())) for f in (folder, whole)]
    first, second = (engine.run(frame) for engine in engines)
    np.testing.assert_array_equal(first.semantic, second.semantic)
    np.testing.assert_allclose(first.anomaly_score, second.anomaly_score, atol=2e-3)


def test_the_wrong_configuration_is_refused_with_the_layer(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(yaml.safe_dump({"segmenter": {**TINY["segmenter"], "decoder_channels": 8}}))  # type: ignore[dict-item]
    assert main([str(bundle), "--config", str(config), "--with", "fp16"]) == 2
    assert "give the configuration that it was trained with" in capsys.readouterr().err


def test_a_variant_that_differs_too_much_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoilt(model: Any) -> Any:
        half = half_network(model)
        half.segmenter.get_parameter("classify.bias").data[0] += 30
        return half

    monkeypatch.setattr(precisions, "half_network", spoilt)
    assert export([str(checkpoint), str(tmp_path / "b")]) == 2
    assert "the variant fp16 is not used: it differs from ONNX Runtime" in capsys.readouterr().err
    assert not (tmp_path / "b" / "bundle.yaml").exists()


def test_int8_without_frames_says_what_to_give(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(checkpoint), str(tmp_path / "b"), "--with", "int8"]) == 2
    assert "int8 needs calibration frames" in capsys.readouterr().err


def test_a_changed_variant_is_refused_with_its_name(whole: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    opened = read_bundle(folder)
    contents = bytearray((folder / "model_fp16.onnx").read_bytes())
    contents[100] ^= 1
    (folder / "model_fp16.onnx").write_bytes(contents)
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: SHA-256 is"):
        read_bundle(folder)
    # Also when the file is exchanged after the bundle was read.
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: SHA-256 is"):
        opened.variant_bytes(opened.description.variants[0])
