"""The cheaper form of class ids, and older bundles that are brought into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from tensorrt_parsers import complaints
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import read_bundle
from training.bundles import onnx_export
from training.bundles.graph_form.up_sampled_classes import PREFIX, up_sampling_weights, with_cheaper_classes
from training.export import main as export
from training.renew_graphs.__main__ import main


def classes_of_frame(mode: str = "linear", scales: tuple[float, ...] = (1, 1, 4, 4)) -> onnx.ModelProto:
    """The three colours of a frame as logits, up-sampled, and their argmax, as the exporter writes it."""
    how = {"mode": mode, "coordinate_transformation_mode": "half_pixel" if mode == "linear" else "asymmetric"}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["logits"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["logits", "", "scales"], ["dense"], nearest_mode="floor", **how),
        helper.make_node("ArgMax", ["dense"], ["ids"], axis=1, keepdims=0),
        helper.make_node("Cast", ["ids"], ["as_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Cast", ["as_float"], ["semantic"], to=onnx.TensorProto.UINT8),
    ]
    frame = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", "H", "W", 3])
    semantic = helper.make_tensor_value_info("semantic", onnx.TensorProto.UINT8, ["N", "h", "w"])
    tensors = [numpy_helper.from_array(np.array(scales, np.float32), "scales")]
    graph = helper.make_graph(nodes, "classes", [frame], [semantic], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ids(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["semantic"], {"image": images})[0])


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_the_cheaper_form_gives_the_same_classes_up_to_the_edges(factor: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 13, 3), np.uint8)
    model = classes_of_frame(scales=(1, 1, factor, factor))
    before = ids(model, images)
    assert with_cheaper_classes(model)
    assert any(node.op_type == "Conv" for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)
    assert not list(complaints(model))
    after = ids(model, images)
    assert after.shape == before.shape == (3, 9 * factor, 13 * factor)
    # A third is not exact in binary, and two colours can be equal there.
    assert np.mean(after != before) < (1e-3 if factor == 3 else 1e-9)
    assert np.unique(before).tolist() == [0, 1, 2]


def test_the_kernels_are_bilinear_up_sampling() -> None:
    plane = torch.rand(1, 1, 7, 6, generator=torch.Generator().manual_seed(0))
    framed = functional.pad(plane, (1, 1, 1, 1), mode="replicate")
    found = functional.pixel_shuffle(functional.conv2d(framed, torch.from_numpy(up_sampling_weights(4)[:, None])), 4)
    wanted = functional.interpolate(plane, scale_factor=4.0, mode="bilinear", align_corners=False)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "scales"),
    [("nearest", (1, 1, 4, 4)), ("linear", (1, 1, 4, 2)), ("linear", (1, 1, 2.5, 2.5)), ("linear", (1, 1, 1, 1))],
)
def test_another_up_sampling_stays_as_it_is(mode: str, scales: tuple[float, ...]) -> None:
    model = classes_of_frame(mode, scales)
    before = model.SerializeToString()
    assert not with_cheaper_classes(model)
    assert model.SerializeToString() == before


@pytest.fixture
def old_bundle(checkpoint: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As an earlier version exported it, at two sizes and precisions."""
    folder = tmp_path / "old"
    with monkeypatch.context() as patched:
        patched.setattr(onnx_export, "with_cheaper_classes", lambda graph: False)
        sizes = ["--size", "96x128", "--size", "64x160"]
        assert export([str(checkpoint), str(folder), "--data", str(tree), *sizes, "--with", "fp16"]) == 0
    return folder


def has_new_form(model: bytes) -> bool:
    return any(node.name.startswith(f"/{PREFIX}/") for node in onnx.load_from_string(model).graph.node)


def test_every_graph_of_an_older_bundle_is_renewed_and_nothing_else(
    old_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_bundle(old_bundle)
    graphs = {"model.onnx": before.model, **before.files()}
    assert len(graphs) == 4
    assert not any(map(has_new_form, graphs.values()))
    assert main([str(old_bundle)]) == 0
    printed = capsys.readouterr().out
    after = read_bundle(old_bundle)
    for name, contents in {"model.onnx": after.model, **after.files()}.items():
        assert has_new_form(contents)
        assert f"{name}: 100.000% of the labels agree" in printed
        weights = {t.name: t for t in onnx.load_from_string(contents).graph.initializer}
        assert all(weights[t.name] == t for t in onnx.load_from_string(graphs[name]).graph.initializer)
    old, new = before.description, after.description
    assert new.model_sha256 != old.model_sha256
    assert (new.operating_points, new.training, new.score) == (old.operating_points, old.training, old.score)
    assert [replace(v, sha256="") for v in new.variants] == [replace(v, sha256="") for v in old.variants]
    assert main([str(old_bundle)]) == 0
    assert "today's form already" in capsys.readouterr().out


def test_a_graph_that_would_give_other_classes_is_not_written(
    old_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.bundles.graph_form import up_sampled_classes

    def shifted(factor: int) -> np.ndarray:
        return np.roll(up_sampling_weights(factor), 1, axis=1)

    monkeypatch.setattr(up_sampled_classes, "up_sampling_weights", shifted)
    contents = {path.name: path.read_bytes() for path in old_bundle.iterdir()}
    assert main([str(old_bundle)]) == 2
    assert "would give other results" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in old_bundle.iterdir()} == contents


def test_a_folder_without_a_bundle_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_shipped_bundles_have_the_new_form(shipped_bundle: Path) -> None:
    folders = [shipped_bundle, shipped_bundle.with_name("camvid_small_cross_entropy")]
    for bundle in map(read_bundle, folders):
        assert all(map(has_new_form, (bundle.model, *bundle.files().values())))
