"""Further input sizes: graphs made from a bundle's own, and what becomes of them on the way to the vehicle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tensorrt_parsers import complaints
from test_train_segmenter import SEGMENTER
from torch.nn import functional

from ros_ood_perception.bundle.model_bundle import (
    BundleError,
    FurtherSize,
    InputDescription,
    read_bundle,
    write_bundle,
)
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.opening import open_engine
from training.add_size.__main__ import main
from training.bundles.graph import LOGITS, GraphError
from training.bundles.onnx_export import onnx_bytes
from training.bundles.precisions import half_network
from training.bundles.sizes.resized_graph import resized
from training.calibrate import main as calibrate
from training.export import main as export
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.segmenter.pyramid_pooling import pooling_matrix, spreading_matrix

SIZES = ((96, 192), (96, 128), (64, 160))
"""Coarsest maps of 3x6, 3x4 and 2x5: the grid of 3 divides the first one only."""


@pytest.fixture(scope="module")
def network() -> LadderSegmenter:
    torch.manual_seed(0)
    network = LadderSegmenter(from_mapping({**SEGMENTER, "pooling_bins": [1, 3]}, SegmenterConfig, "test"), 4)
    network.classify.weight.data *= 2  # so that the classes and the score vary
    return network.eval()


def exported(network: LadderSegmenter, size: tuple[int, int], half: bool = False) -> bytes:
    model = DeployedSegmenter(network, size, 1.0).eval()
    return onnx_bytes(half_network(model) if half else model, {"name": "test"})


def outputs(model: bytes, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(["semantic", "anomaly"], {"image": image}))


@pytest.mark.parametrize("half", [False, True])
def test_a_graph_made_for_another_size_equals_the_one_exported_at_it(network: LadderSegmenter, half: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 100, 170, 3), np.uint8)
    graphs = [exported(network, size, half) for size in SIZES]
    for size, graph in zip(SIZES, graphs, strict=True):
        semantic, anomaly = outputs(graph, image)
        assert semantic.shape == (2, *size)
        assert anomaly.std() > 0.01
        for other in graphs:
            made = resized(other, size)
            # Untrained normalisations are all alike, which the exporter writes as nodes Identity.
            assert not [line for line in complaints(onnx.load_from_string(made)) if "Identity" not in line]
            found = outputs(made, image)
            np.testing.assert_array_equal(found[0], semantic)
            np.testing.assert_allclose(found[1], anomaly, atol=1e-6)


def test_the_exported_graph_computes_what_the_network_does_where_the_grid_does_not_divide(
    network: LadderSegmenter,
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 70, 150, 3), np.uint8)
    with torch.no_grad():
        _, expected = DeployedSegmenter(network, (64, 160), 1.0)(torch.from_numpy(image))
    np.testing.assert_allclose(outputs(exported(network, (64, 160)), image)[1], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(("bins", "side"), [(5, 13), (5, 23), (3, 2), (1, 7), (4, 8)])
def test_the_products_are_adaptive_pooling_and_bilinear_up_sampling(bins: int, side: int) -> None:
    row = torch.rand(1, 1, side)
    pooled = functional.adaptive_avg_pool1d(row, bins)
    torch.testing.assert_close(row @ torch.from_numpy(pooling_matrix(bins, side)).T, pooled)
    spread = functional.interpolate(pooled, size=side, mode="linear", align_corners=False)
    torch.testing.assert_close(pooled @ torch.from_numpy(spreading_matrix(bins, side)).T, spread)


def test_sizes_that_work_are_named(bundle_of_two_sizes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle_of_two_sizes), "--size", "100x220"]) == 2
    said = capsys.readouterr().err
    assert "no input of 100x220: height and width must be multiples of 32" in said
    assert "the nearest is 96x224" in said
    assert main([str(bundle_of_two_sizes), "--size", "96x128"]) == 2
    assert "two of the sizes 96x128, 64x160, 96x128 are the same" in capsys.readouterr().err


def test_a_graph_with_amounts_of_one_size_is_refused(network: LadderSegmenter) -> None:
    graph = onnx.load_from_string(exported(network, SIZES[0]))
    [at] = [index for index, node in enumerate(graph.graph.node) if LOGITS in node.output]
    source = graph.graph.node[at].input[0]
    shape = onnx.numpy_helper.from_array(np.array([0, 0, 24, 48]), "shape")
    graph.graph.initializer.append(shape)
    graph.graph.node[at].input[0] = "windows"
    graph.graph.node.insert(at, onnx.helper.make_node("Reshape", [source, "shape"], ["windows"]))
    with pytest.raises(GraphError, match=r"nodes Reshape, whose amounts hold for one size; export the checkpoint"):
        resized(graph.SerializeToString(), SIZES[1])


def test_a_checkpoint_is_exported_at_several_sizes_and_a_later_export_leaves_no_file_of_them(
    checkpoint: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "wide"
    sizes = ["--size", "96x128", "--size", "64x160"]
    assert export([str(checkpoint), str(folder), "--data", str(tree), *sizes]) == 0
    said = capsys.readouterr().out
    assert "96x128: 100.0000% of the labels agree with PyTorch" in said
    assert "64x160: 100.0000% of the labels agree with PyTorch" in said
    description = read_bundle(folder).description
    assert description.input.sizes == ((96, 128), (64, 160))
    assert description.files == ("model_64x160.onnx", "model_fp16.onnx", "model_64x160_fp16.onnx")
    assert export([str(checkpoint), str(folder), "--with"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.yaml", "model.onnx"]
    assert "further_sizes" not in (folder / "bundle.yaml").read_text()


def test_calibration_sets_the_score_of_every_size(bundle_of_two_sizes: Path, tree: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "hot", f"camvid:{tree / 'val'}"
    assert calibrate([str(bundle_of_two_sizes), "--data", data, "--out", str(out), "--temperature", "3"]) == 0
    hot, cold = (open_engine(read_bundle(folder), "onnxruntime") for folder in (out, bundle_of_two_sizes))
    assert read_bundle(out).description.input.sizes == ((96, 128), (64, 160))
    for width in (130, 250):
        image = np.random.default_rng(0).integers(0, 256, (1, 100, width, 3), np.uint8)
        after, before = hot.run(image), cold.run(image)
        np.testing.assert_array_equal(after.semantic, before.semantic)
        assert (after.anomaly_score - before.anomaly_score).min() > 0.01


def test_a_size_is_made_anew_and_the_others_stay(bundle_of_two_sizes: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of_two_sizes, tmp_path / "again"))
    before = read_bundle(folder)
    assert main([str(folder), "--size", "64x160", "--size", "128x96"]) == 0
    after = read_bundle(folder)
    assert after.description.input.sizes == ((96, 128), (64, 160), (128, 96))
    assert after.at((64, 160)).model == before.at((64, 160)).model
    assert [len(after.at(size).description.variants) for size in after.description.input.sizes] == [1, 1, 1]


def test_a_cancelled_engine_of_sizes_runs_at_none(bundle_of_two_sizes: Path) -> None:
    engine = open_engine(read_bundle(bundle_of_two_sizes), "onnxruntime")
    engine.cancel()  # type: ignore[attr-defined]
    for width in (130, 250):
        with pytest.raises(EngineError, match="ONNX Runtime failed"):
            engine.run(np.zeros((1, 100, width, 3), np.uint8))
    engine.close()


@pytest.mark.parametrize("file", ["model_64x160.onnx", "model_64x160_fp16.onnx"])
def test_the_graphs_of_a_further_size_are_checked_as_the_first_one_is(
    bundle_of_two_sizes: Path, tmp_path: Path, file: str
) -> None:
    folder = Path(shutil.copytree(bundle_of_two_sizes, tmp_path / "wide"))
    opened = read_bundle(folder)
    other = (folder / "model.onnx").read_bytes()  # of 96x128
    files = {**opened.files(), file: other}
    (folder / file).write_bytes(other)
    with pytest.raises(BundleError, match=rf"{file}: SHA-256 is"):
        read_bundle(folder)
    with pytest.raises(BundleError, match=rf"{file}: 'semantic' has the shape \(1, 96, 128\).*makes it \(1, 64, 160\)"):
        write_bundle(folder, opened.description, opened.model, files)
    assert write_bundle(folder, opened.description, opened.model, {}).description.input.sizes == ((96, 128),)


def test_a_frame_takes_the_highest_size_of_its_aspect_that_it_fills(bundle_of_two_sizes: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of_two_sizes, tmp_path / "fine"))
    assert main([str(folder), "--size", "128x320"]) == 0
    bundle = read_bundle(folder)
    assert bundle.description.input.sizes == ((96, 128), (64, 160), (128, 320))
    engine = open_engine(bundle, "onnxruntime")
    frames = {(127, 318): (64, 160), (128, 320): (128, 320), (400, 1000): (128, 320), (20, 50): (64, 160)}
    for frame, size in frames.items():
        assert engine.run(np.zeros((1, *frame, 3), np.uint8)).semantic.shape == (1, *size)
    engine.close()


@pytest.mark.parametrize("frame", [(720, 1080), (1280, 1920), (1000, 1000)])
def test_sizes_on_the_other_side_of_the_aspect_are_not_of_one_aspect(frame: tuple[int, int]) -> None:
    further = [FurtherSize(*size, f"model_{size[0]}.onnx", "") for size in ((384, 672), (576, 1024), (768, 1344))]
    assert InputDescription(480, 640, further_sizes=tuple(further)).size_for(frame) == (480, 640)
