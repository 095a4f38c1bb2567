from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.parity import Parity
from ros_ood_perception.inference.perception import Perception
from training.bundles import export
from training.bundles.export import deployed_segmenter, export_bundle, parity_with_network, require_parity
from training.bundles.onnx_export import ExportError, onnx_bytes
from training.data.sets.camvid import CamVid
from training.export import main
from training.runs.checkpoint import load_checkpoint, save_checkpoint
from training.segmenter.deployed_segmenter import DeployedSegmenter


def graph_of(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "model.onnx")


@pytest.mark.parametrize("which", ["tiny", "shipped"])
def test_the_graph_is_what_every_engine_reads(which: str, bundle: Path, shipped_bundle: Path) -> None:
    graph = graph_of(bundle if which == "tiny" else shipped_bundle)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 8
    operators = {node.op_type for node in graph.graph.node}
    # Reductions over attributes' axes only, no loops, and one Shape: the number of images, for the resize.
    assert not operators & {"ReduceMean", "If", "Loop", "GlobalAveragePool", "NonZero", "Where", "LogSoftmax"}
    assert sum(node.op_type == "Shape" for node in graph.graph.node) == 1
    # TensorRT takes uint8 at the graph's edge only: it is cast at once, and made at the very end.
    [consumer] = [node for node in graph.graph.node if "image" in node.input]
    assert (consumer.op_type, consumer.attribute[0].i) == ("Cast", onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("which", ["tiny", "shipped"])
def test_the_file_holds_no_trace_of_the_machine_that_made_it(which: str, bundle: Path, shipped_bundle: Path) -> None:
    folder = bundle if which == "tiny" else shipped_bundle
    graph = graph_of(folder)
    assert not graph.doc_string
    assert all(not node.doc_string and not node.metadata_props for node in graph.graph.node)
    contents = (folder / "model.onnx").read_bytes()
    assert b".py" not in contents
    assert b"site-packages" not in contents
    # The shipped file may be older than those that say how the input is normalised and where the encoder is from.
    later = {"input_mean", "input_std", "encoder_weights"}
    assert {p.key for p in graph.metadata_props} - later == {"name", "weights_licence"}


def test_batch_height_and_width_are_dynamic(bundle: Path) -> None:
    [image] = graph_of(bundle).graph.input
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", "H", "W", 3]


def test_the_graph_computes_what_the_network_computes_on_real_frames(
    camvid: Path, checkpoint: Path, bundle: Path
) -> None:
    frames = CamVid(camvid / "val")
    parity = parity_with_network(
        deployed_segmenter(load_checkpoint(checkpoint), None, 1.0),
        read_bundle(bundle),
        (frames[i].image for i in range(0, len(frames), 10)),
    )
    assert parity.frames == 11
    assert parity.label_agreement > 0.999
    assert parity.score_difference < 1e-4


def test_a_batch_is_its_frames_one_by_one(bundle: Path, tree: Path) -> None:
    frames = CamVid(tree / "val")
    engine = open_engine(read_bundle(bundle), "onnxruntime")
    images = np.stack([frames[i].image for i in range(3)])
    together = engine.run(images)
    for index in range(3):
        alone = engine.run(images[index : index + 1])
        np.testing.assert_array_equal(together.semantic[index], alone.semantic[0])
        np.testing.assert_allclose(together.anomaly_score[index], alone.anomaly_score[0], atol=1e-5)


def test_the_bundle_tells_where_it_comes_from(bundle: Path, checkpoint: Path) -> None:
    description = read_bundle(bundle).description
    saved = load_checkpoint(checkpoint)
    assert description.weights_licence == "CC BY-NC 4.0"
    assert description.training.config_digest == saved["config_digest"]
    assert description.training.best_epoch == saved["progression"]["best_epoch"]
    assert description.training.parameters == sum(p.numel() for p in _parameters(saved))
    assert [p.name for p in description.operating_points] == [
        f"{pixels}_fpr_{rate}" for pixels in ("inlier", "drivable") for rate in (0.01, 0.05, 0.001)
    ]


def test_a_checkpoint_of_an_earlier_version_has_the_drivable_classes_of_its_set(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    assert [c.name for c in read_bundle(bundle).description.classes if c.drivable] == ["road"]
    saved = dict(load_checkpoint(checkpoint))
    del saved["drivable"]
    save_checkpoint(tmp_path / "old.pt", saved)
    assert main([str(tmp_path / "old.pt"), str(tmp_path / "old"), "--with"]) == 0
    assert [c.name for c in read_bundle(tmp_path / "old").description.classes if c.drivable] == ["road"]


def _parameters(saved: dict[str, Any]) -> list[torch.nn.Parameter]:
    return list(deployed_segmenter(saved, None, 1.0).segmenter.parameters())


def test_an_operating_point_holds_on_the_frames_it_was_chosen_on(bundle: Path, tree: Path) -> None:
    opened = read_bundle(bundle)
    point = opened.description.operating_point("inlier_fpr_0.05")
    perception = Perception(open_engine(opened, "auto"), point.threshold, 11)
    frames = CamVid(tree / "val")
    masks = [(perception(f.image).anomaly_mask, f.labels != 255) for f in (frames[i] for i in range(len(frames)))]
    share = sum(int((m & v).sum()) for m, v in masks) / sum(int(v.sum()) for _, v in masks)
    assert share == pytest.approx(point.false_positive_rate)
    assert share <= 0.05


def test_another_size_and_temperature(checkpoint: Path, tmp_path: Path) -> None:
    assert main([str(checkpoint), str(tmp_path / "b"), "--size", "64x160", "--temperature", "2"]) == 0
    opened = read_bundle(tmp_path / "b")
    assert (opened.description.input.height, opened.description.input.width) == (64, 160)
    assert opened.description.score.temperature == 2.0
    assert opened.description.operating_points == ()
    assert open_engine(opened, "auto").run(np.zeros((1, 30, 40, 3), np.uint8)).semantic.shape == (1, 64, 160)


def test_an_impossible_size_is_refused_with_the_multiple(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), str(tmp_path / "b"), "--size", "100x160"]) == 2
    said = capsys.readouterr().err
    assert "--size 100x160: height and width must be multiples of 32" in said
    assert "the nearest is 96x160" in said
    assert not (tmp_path / "b" / "bundle.yaml").exists()


def test_a_graph_that_differs_from_the_network_is_not_exported(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exports_another_temperature(model: DeployedSegmenter, properties: dict[str, str]) -> bytes:
        other = DeployedSegmenter(model.segmenter, model.input_size, 1.5).eval()
        return onnx_bytes(other, properties)

    monkeypatch.setattr(export, "onnx_bytes", exports_another_temperature)
    with pytest.raises(ExportError, match="the score differs by up to"):
        export_bundle([checkpoint], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_export_that_fails_leaves_the_older_bundle(
    checkpoint: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = Path(shutil.copytree(bundle, tmp_path / "b"))
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    assert main([str(checkpoint), str(older), "--data", str(tmp_path / "misspelt")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before


def test_parity_limits() -> None:
    require_parity(Parity(1, 0.9991, 9e-5))
    for parity in (Parity(1, 0.999, 0.0), Parity(1, 1.0, 2e-4), Parity(0, 0.0, 0.0)):
        with pytest.raises(ExportError):
            require_parity(parity)


def test_a_bundle_that_letterboxes_says_so_and_sees_a_wide_frame_undistorted(checkpoint: Path, tmp_path: Path) -> None:
    assert main([str(checkpoint), str(tmp_path / "wide"), "--fit", "letterbox", "--with"]) == 0
    opened = read_bundle(tmp_path / "wide")
    assert opened.description.input.fit == "letterbox"
    assert "fit: letterbox" in (tmp_path / "wide" / "bundle.yaml").read_text()
    size = opened.description.input.size
    image = np.random.default_rng(0).integers(0, 256, (size[0] // 2, size[1], 3), np.uint8)
    found = Perception(open_engine(opened, "auto"), 0.5, 11, opened.description.input)(image)
    assert found.engine_semantic.shape == (size[0] // 2, size[1])
    assert main([str(checkpoint), str(tmp_path / "plain"), "--with"]) == 0
    assert "fit" not in (tmp_path / "plain" / "bundle.yaml").read_text()
