from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ros_ood_perception.external_weights import external_tensor

from ros_ood_perception.bundle import BundleError, read_bundle, write_bundle, write_description
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine


@pytest.fixture
def bundle(shipped_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_bundle, tmp_path / "bundle"))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "bundle.yaml"
    data = yaml.safe_load(path.read_text())
    edit(data)
    path.write_text(yaml.safe_dump(data))


def test_the_shipped_bundle_is_complete(shipped_bundle: Path) -> None:
    description = read_bundle(shipped_bundle).description
    assert description.name == "camvid_small"
    assert description.weights_licence == "CC BY-NC 4.0"
    assert [c.name for c in description.classes][:4] == ["sky", "building", "pole", "road"]
    assert description.training.parameters <= 3_000_000
    assert (shipped_bundle / "model.onnx").stat().st_size <= 12_000_000
    [miou] = [m.value for m in description.training.measurements if m.metric == "mIoU" and "test" in m.data]
    assert 0.6 <= miou < 1
    assert description.training.command.startswith("python -m training.train_segmenter --config training/configs/")
    assert 0 < description.operating_point("").threshold < 1


def test_a_description_that_is_written_reads_back_equal(bundle: Path) -> None:
    before = read_bundle(bundle)
    write_description(bundle, before.description)
    assert read_bundle(bundle).description == before.description


def test_a_changed_model_is_refused_with_both_digests(bundle: Path) -> None:
    model = bundle / "model.onnx"
    contents = bytearray(model.read_bytes())
    contents[len(contents) // 2] ^= 1
    model.write_bytes(contents)
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256 is [0-9a-f]{64}, bundle\.yaml says [0-9a-f]{64}"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format_version=2), r"format_version is 2; this version reads 1"),
        (lambda d: d.update(colour="red"), r"unknown key\(s\) colour"),
        (lambda d: d["score"].update(temprature=1.0), r"unknown key\(s\) score\.temprature"),
        (lambda d: d.pop("score"), r"'score' is missing"),
        (lambda d: d["score"].update(temperature=-1.0), r"temperature is -1.0; it must be positive"),
        (lambda d: d["input"].update(height="tall"), r"'input.height' is 'tall'"),
        (lambda d: d["input"].update(colour_order="grb"), r"'input.colour_order' is 'grb'"),
        (lambda d: d["classes"][1].update(id=7), r"class ids are \[0, 7,"),
        (lambda d: d["operating_points"][0].update(threshold=1.5), r"is 1.5; range is \[0, 1\]"),
    ],
)
def test_a_bad_field_is_named(bundle: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    change(bundle, edit)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_missing_files_and_folders_are_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere: no such bundle folder"):
        read_bundle(tmp_path / "nowhere")
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be read"):
        read_bundle(bundle)
    (bundle / "bundle.yaml").write_text("a: [1\n")
    with pytest.raises(BundleError, match=r"bundle\.yaml: not a readable YAML file"):
        read_bundle(bundle)
    (bundle / "bundle.yaml").unlink()
    with pytest.raises(BundleError, match=r"bundle\.yaml: cannot be read"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24))
        + "format_version: *y\n",
        "format_version: 2001-13-45\n",
        f"format_version: {'9' * 5000}\n",
        f"format_version: 0x{'f' * 5000}\n",
        "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nformat_version: 1\n",
        "[" * 5000,
    ],
)
def test_a_hostile_description_is_refused_with_the_files_name(bundle: Path, text: str) -> None:
    (bundle / "bundle.yaml").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.yaml: ") as caught:
        read_bundle(bundle)
    assert len(str(caught.value)) < 10_000


def test_an_unknown_operating_point_is_named_with_those_there_are(shipped_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no operating point 'strict'; it has inlier_fpr_0\.01"):
        read_bundle(shipped_bundle).description.operating_point("strict")


def variant(**changes: object) -> dict[str, object]:
    return {
        "format": "onnx",
        "precision": "fp16",
        "file": "model_fp16.onnx",
        "sha256": hashlib.sha256(b"half").hexdigest(),
        "label_agreement": 0.999,
        "score_difference": 1e-4,
        "measured_on": "6 frames",
    } | changes


def test_a_variant_is_found_by_format_and_precision_and_its_file_is_checked(bundle: Path) -> None:
    change(bundle, lambda d: d.update(variants=[variant()]))
    (bundle / "model_fp16.onnx").unlink()
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: cannot be read .*copy the whole bundle folder"):
        read_bundle(bundle)
    (bundle / "model_fp16.onnx").write_bytes(b"half")
    opened = read_bundle(bundle)
    found = opened.description.variant("onnx", "fp16")
    assert found is not None
    assert opened.variant_bytes(found) == b"half"
    assert opened.description.variant("onnx", "int8") is None
    assert opened.description.variant("torch", "fp16") is None
    (bundle / "model_fp16.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: SHA-256 is"):
        opened.variant_bytes(found)


def test_a_bundle_without_variants_reads_as_before(bundle: Path) -> None:
    change(bundle, lambda d: d.pop("variants", None))
    assert read_bundle(bundle).description.variants == ()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([variant(file="../model.onnx")], "must be a plain name"),
        ([variant(file="/etc/passwd")], "must be a plain name"),
        ([variant(file="..")], "must be a plain name"),
        ([variant(file="bundle.yaml")], "neither model.onnx nor bundle.yaml"),
        ([variant(precision="fp8")], r"'variants\[0\]\.precision' is 'fp8'"),
        ([variant(precision="fp32")], "onnx fp32, which is not possible beside model.onnx"),
        ([variant(), variant(file="again.onnx")], "two variants have one format and precision"),
        ([variant(), variant(precision="int8")], "two variants have one file"),
        ([variant(digest="")], r"unknown key\(s\) variants\[0\]\.digest"),
    ],
)
def test_an_impossible_variant_is_refused(bundle: Path, variants: list[dict[str, object]], message: str) -> None:
    change(bundle, lambda d: d.update(variants=variants))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_writing_a_bundle_keeps_the_variants_that_have_contents(bundle: Path, tmp_path: Path) -> None:
    change(bundle, lambda d: d.update(variants=[variant()]))
    (bundle / "model_fp16.onnx").write_bytes(b"half")
    opened = read_bundle(bundle)
    kept = write_bundle(tmp_path / "kept", opened.description, opened.model, {"model_fp16.onnx": b"changed"})
    [written] = kept.description.variants
    assert kept.variant_bytes(written) == b"changed"
    assert write_bundle(tmp_path / "bare", opened.description, opened.model).description.variants == ()


def with_weights_outside(model: bytes, folder: Path) -> tuple[bytes, str]:
    """The model with its largest tensor in a file of the folder, and that tensor's name."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    graph = onnx.load_from_string(model)
    tensor = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    return graph.SerializeToString(), tensor.name


@pytest.mark.parametrize("file", ["model.onnx", "model_int8.onnx"])
def test_weights_outside_of_the_file_are_refused_with_the_tensors_name(bundle: Path, file: str) -> None:
    model, tensor = with_weights_outside((bundle / "model.onnx").read_bytes(), bundle)
    (bundle / file).write_bytes(model)
    digest = hashlib.sha256(model).hexdigest()
    if file == "model.onnx":
        change(bundle, lambda d: d.update(model_sha256=digest))
    else:
        change(bundle, lambda d: d.update(variants=[variant(precision="int8", file=file, sha256=digest)]))
    with pytest.raises(
        BundleError, match=rf"{file}: the values of the tensor '.*' are in another file.*onnx\.save"
    ) as e:
        read_bundle(bundle)
    assert tensor[-8:] in str(e.value)


def test_the_engine_reads_no_weights_from_the_working_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = read_bundle(bundle)
    model, _ = with_weights_outside(opened.model, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="cannot load the model"):
        OnnxRuntimeEngine(replace(opened, model=model))


def test_weights_outside_are_found_wherever_a_graph_can_have_tensors() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper = onnx.helper
    inside = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "inside")
    outside = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "outside")
    onnx.external_data_helper.set_external_data(outside, "weights.bin")

    def graph_of(tensor: Any, place: str) -> Any:
        constant = helper.make_node("Constant", [], ["c"], value=tensor)
        sparse = helper.make_sparse_tensor(tensor, onnx.numpy_helper.from_array(np.arange(3)), [3])
        if place == "initialiser":
            return helper.make_graph([], "g", [], [], [inside, tensor, inside])
        if place == "constant":
            return helper.make_graph([constant], "g", [], [])
        if place == "sparse":
            return helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
        if place == "sparse constant":
            return helper.make_graph([helper.make_node("Constant", [], ["c"], sparse_value=sparse)], "g", [], [])
        inner = graph_of(tensor, "initialiser")
        return helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], [])

    for place in ("initialiser", "constant", "sparse", "sparse constant", "branch"):
        for tensor, name in ((inside, None), (outside, "outside")):
            model = helper.make_model(graph_of(tensor, place))
            assert external_tensor(model.SerializeToString()) == name, place
    function = helper.make_function(
        "own", "f", [], ["c"], [helper.make_node("Constant", [], ["c"], value=outside)], [helper.make_opsetid("", 17)]
    )
    model = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    assert external_tensor(model.SerializeToString()) == "outside"


def test_what_is_no_graph_is_left_to_the_engine() -> None:
    random = np.random.default_rng(0)
    for length in range(200):
        external_tensor(random.bytes(length))
    assert external_tensor(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") is None
