from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle, write_bundle, write_description
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
    assert description.training.parameters <= 4_000_000
    assert (shipped_bundle / "model.onnx").stat().st_size <= 16_000_000
    [miou] = [m.value for m in description.training.measurements if m.metric == "mIoU" and "test" in m.data]
    assert 0.6 <= miou < 1
    assert description.training.command.startswith("python -m training.train_segmenter --config training/configs/")
    assert 0 < description.operating_point("").threshold < 1


def test_a_description_that_is_written_reads_back_equal(bundle: Path) -> None:
    before = read_bundle(bundle)
    write_description(bundle, before.description)
    assert read_bundle(bundle).description == before.description


def test_drivable_classes_are_written_and_a_bundle_without_them_is_as_before(bundle: Path) -> None:
    opened = read_bundle(bundle)
    assert opened.description.drivable_ids == (3,)
    plain = tuple(replace(c, drivable=False) for c in opened.description.classes)
    write_description(bundle, replace(opened.description, classes=plain))
    assert read_bundle(bundle).description.drivable_ids == ()
    assert "drivable:" not in (bundle / "bundle.yaml").read_text()
    classes = tuple(replace(c, drivable=c.name in ("road", "pavement")) for c in opened.description.classes)
    write_description(bundle, replace(opened.description, classes=classes))
    assert (bundle / "bundle.yaml").read_text().count("drivable: true") == 2
    assert read_bundle(bundle).description.drivable_ids == (3, 4)


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
    with pytest.raises(BundleError, match=rf"{bundle.name}s: no such bundle folder \(nearest: '{bundle.name}'\)"):
        read_bundle(bundle.with_name(f"{bundle.name}s"))
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
        "sha256": "d0f06ee347c801b5bf6603be7a4f7669e823f8647c656d8bf1d39f4050780d67",
        "label_agreement": 0.999,
        "score_difference": 1e-4,
        "measured_on": "6 frames",
    } | changes


def test_a_variant_is_found_by_format_and_precision_and_its_file_is_checked(bundle: Path) -> None:
    contents = (bundle / "model_fp16.onnx").read_bytes()
    change(bundle, lambda d: d.update(variants=[variant(sha256=hashlib.sha256(contents).hexdigest())]))
    (bundle / "model_fp16.onnx").unlink()
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: cannot be read .*copy the whole bundle folder"):
        read_bundle(bundle)
    (bundle / "model_fp16.onnx").write_bytes(contents)
    opened = read_bundle(bundle)
    found = opened.description.variant("onnx", "fp16")
    assert found is not None
    assert opened.variant_bytes(found) == contents
    assert opened.description.variant("onnx", "int8") is None
    (bundle / "model_fp16.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model_fp16\.onnx: SHA-256 is"):
        opened.variant_bytes(found)


def test_a_torch_program_is_refused_unread_with_the_remedy(bundle: Path, tmp_path: Path) -> None:
    # Whatever is in it: nothing looks. (It could hold code, in more ways than a check of its parts can name.)
    contents = b"PK\3\4 anything"
    (bundle / "model_fp32.pt2").write_bytes(contents)
    program = variant(
        format="torch", precision="fp32", file="model_fp32.pt2", sha256=hashlib.sha256(contents).hexdigest()
    )
    change(bundle, lambda d: d.update(variants=[program]))
    with pytest.raises(
        BundleError,
        match=r"in 'variants\[0\]': the variant 'model_fp32\.pt2' is a torch program, which can hold code and is not "
        r"read.*delete the variant from bundle\.yaml, or export",
    ):
        read_bundle(bundle)


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
        ([variant(precision="fp32")], "onnx fp32, as model.onnx is already"),
        ([variant(format="tflite")], "has the format 'tflite'; it must be onnx"),
        ([variant(label_agreement=1.5)], "has label_agreement 1.5"),
        ([variant(), variant(file="again.onnx")], "two variants have one format and precision"),
        ([variant(), variant(precision="int8")], "two graphs have one file"),
        ([variant(digest="")], r"unknown key\(s\) variants\[0\]\.digest"),
    ],
)
def test_an_impossible_variant_is_refused(bundle: Path, variants: list[dict[str, object]], message: str) -> None:
    change(bundle, lambda d: d.update(variants=variants))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_writing_a_bundle_keeps_the_variants_that_have_contents(bundle: Path, tmp_path: Path) -> None:
    opened = read_bundle(bundle)
    changed = (bundle / "model.onnx").read_bytes()
    kept = write_bundle(tmp_path / "kept", opened.description, opened.model, {"model_fp16.onnx": changed})
    [written] = kept.description.variants
    assert kept.variant_bytes(written) == changed
    assert write_bundle(tmp_path / "bare", opened.description, opened.model).description.variants == ()


def further(**changes: object) -> dict[str, object]:
    values = {"height": 64, "width": 160, "file": "model_64x160.onnx", "sha256": "0" * 64}
    return {**values, **changes}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([further(file="../model.onnx")], "the file of a further size is '../model.onnx'; it must be a plain name"),
        ([further(file="model_fp16.onnx")], "two graphs have one file"),
        ([further(height=0)], "the input size is 0x160; both must be 1 to"),
        ([further(height=480, width=640)], "two of the sizes 480x640, 480x640 are the same"),
        ([further(width=100 + n, file=f"{n}.onnx") for n in range(4)], "there are 4 further sizes; at most 3"),
        (
            [further(variants=[variant(precision="fp32")])],
            r"further_sizes\[0\]\.variants\[0\]': a variant is onnx fp32",
        ),
        ([further(thresholds=[])], r"unknown key\(s\) input\.further_sizes\[0\]\.thresholds"),
        ([further(file="nowhere.onnx")], r"nowhere\.onnx: cannot be read"),
    ],
)
def test_an_impossible_further_size_is_refused(bundle: Path, sizes: list[dict[str, object]], message: str) -> None:
    change(bundle, lambda d: d["input"].update(further_sizes=sizes))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


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
    with pytest.raises(BundleError, match=rf"{file}: the tensor '.*' has values in another file.*onnx\.save") as e:
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


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["input"].update(height=10**9), r"input size is 1000000000x640; both must be 1 to 16384"),
        (lambda d: d["input"].update(height=16_000, width=16_000), "at most 33554432 pixels"),
        (lambda d: d["input"].update(height=10**30), "must fit in 64 bits"),
        (lambda d: d["score"].update(temperature=float("inf")), r"bundle\.yaml: .*'\.inf' is no finite number"),
        (
            lambda d: d["score"].update(temperature=1e9),
            "temperature is 1000000000.0; it must be positive, 0.001 to 1000",
        ),
        (lambda d: d["operating_points"][0].update(threshold=float("nan")), "'.nan' is no finite number"),
        (lambda d: d["operating_points"][0].update(false_positive_rate=7.0), "false_positive_rate of the operating"),
        (lambda d: d["operating_points"][0].update(threshold_interval=[-1.0, 0.5]), "threshold_interval of the"),
        (lambda d: d["training"].update(epochs=-3), "in 'training': epochs is -3; it must not be negative"),
        (
            lambda d: d.update(classes=[dict(d["classes"][0], colour=[0, 0, 0]) for _ in range(440)]),
            "there are 440 classes; 2 to 254",
        ),
        (lambda d: d["classes"][0].update(name="x" * 201), "a name of 201 characters"),
        (lambda d: d["classes"][0].update(name="sky\n[INFO] all is well"), r"'classes\[0\]\.name' is 'sky\\n"),
        (lambda d: d.update(name="\x1b[2Jcar"), r"the field 'name' is '\\x1b\[2Jcar'"),
        (lambda d: d.update({"\x1b]0;x": 1}), r"a key' is '\\x1b\]0;x'"),
        (lambda d: d["training"].update(command="\u202egnp.exe"), r"'training\.command'"),
        (lambda d: d.update(model_sha256="\x07" * 64), "'model_sha256'"),
    ],
)
def test_a_value_that_no_bundle_has_is_named(
    bundle: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(bundle, edit)
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(bundle)
    assert "bundle.yaml: " in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()


def test_a_key_that_is_there_twice_is_refused(bundle: Path) -> None:
    path = bundle / "bundle.yaml"
    path.write_text(path.read_text() + "name: other\n")
    with pytest.raises(BundleError, match=r"bundle\.yaml: .*the key 'name' is there twice"):
        read_bundle(bundle)


class TestFilesThatAreNotPlain:
    """Each in the place of each file of a bundle: refused at once, with its name, and nothing of it is read."""

    FILES = ("bundle.yaml", "model.onnx", "model_fp16.onnx", "bundle.sig")

    @pytest.fixture(autouse=True)
    def signed(self, bundle: Path) -> None:
        (bundle / "bundle.sig").write_bytes(bytes(64))

    def refused(self, bundle: Path, file: str, message: str) -> None:
        key = "A" * 43 + "=" if file == "bundle.sig" else ""
        with pytest.raises(BundleError, match=rf"{re.escape(file)}: {message}"):
            read_bundle(bundle, key)

    @pytest.mark.parametrize("file", FILES)
    def test_a_pipe_a_device_a_socket_and_a_folder(self, bundle: Path, file: str) -> None:
        path = bundle / file
        path.unlink()
        os.mkfifo(path)
        self.refused(bundle, file, "is a named pipe; put a regular file there")
        path.unlink()
        for device in ("/dev/zero", "/dev/null", "/dev/full"):
            path.symlink_to(device)
            self.refused(bundle, file, "is a device")
            path.unlink()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            self.refused(bundle, file, "is a socket")
        path.unlink()
        path.mkdir()
        self.refused(bundle, file, "is a folder")

    @pytest.mark.parametrize("file", FILES)
    def test_a_huge_file_and_one_that_hides_its_size(self, bundle: Path, file: str) -> None:
        path = bundle / file
        path.unlink()
        with path.open("wb") as huge:
            huge.truncate(1 << 40)
        self.refused(bundle, file, "has 1099511627776 bytes; at most")
        path.unlink()
        path.symlink_to("/proc/self/maps")
        self.refused(bundle, file, "its size was 0 bytes, 1 were read")

    @pytest.mark.parametrize("file", FILES)
    def test_a_link_that_leads_nowhere_or_round(self, bundle: Path, file: str) -> None:
        path = bundle / file
        path.unlink()
        path.symlink_to(file)
        self.refused(bundle, file, "cannot be read")
        path.unlink()
        path.symlink_to("nowhere")
        self.refused(bundle, file, "cannot be read")

    def test_a_link_to_the_file_is_the_file(self, bundle: Path, tmp_path: Path) -> None:
        # colcon build --symlink-install makes them.
        for file in self.FILES[:3]:
            (bundle / file).rename(tmp_path / file)
            (bundle / file).symlink_to(tmp_path / file)
        assert read_bundle(bundle).description.name == "camvid_small"
