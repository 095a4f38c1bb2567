"""`python -m training.calibrate` as its user runs it, and the thresholds that it chooses."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from synthetic_camvid import write_anomalies

from ros_ood_perception.bundle.model_bundle import (
    Bundle,
    Measurement,
    OperatingPoint,
    read_bundle,
    write_bundle,
    write_description,
)
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from training.bundles.graph import LOGITS, TEMPERATURE
from training.bundles.graph_form.up_sampled_classes import PREFIX, UP_SAMPLING
from training.bundles.onnx_export import LOGITS_WEIGHT
from training.bundles.operating_points import LEVELS, InlierScores, inlier_operating_points
from training.bundles.temperature import LabelledLogits, best_temperature
from training.calibrate import main
from training.data.registry import open_data_set
from training.export import main as export
from training.joint.negative_temperature import NEGATIVE_MARGIN, temperatures_on_negatives
from training.segmenter.deployed_segmenter import DEFAULT_SCORE

RATES = {"0.01": 0.01, "0.05": 0.05, "0.001": 0.001}
ROAD = 3


def with_scaled_logits(bundle: Path, folder: Path, factor: float) -> Path:
    """A bundle whose network is `factor` times as certain."""
    opened = read_bundle(bundle)
    graph = onnx.load_from_string(opened.model)
    last = {LOGITS_WEIGHT, LOGITS_WEIGHT.replace("weight", "bias")}
    scaled = [tensor for tensor in graph.graph.initializer if tensor.name in last]
    assert len(scaled) == 2
    for tensor in scaled:
        values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    write_bundle(folder, opened.description, graph.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def calibrated(bundle: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was four times as certain as the tiny one, calibrated into another folder."""
    folder = tmp_path_factory.mktemp("calibration")
    certain = with_scaled_logits(bundle, folder / "certain", 4.0)
    assert main([str(certain), "--data", f"camvid:{tree / 'val'}", "--out", str(folder / "calibrated")]) == 0
    return folder / "calibrated"


def outputs(bundle: Path, tree: Path) -> Iterator[tuple[EngineOutput, NDArray[np.uint8]]]:
    """What the engine gives for each validation frame, and the frame's labels."""
    engine = open_engine(read_bundle(bundle), "onnxruntime")
    for frame in open_data_set("camvid", tree, "val"):
        yield engine.run(frame.image[None]), frame.labels


def measured(bundle: Path) -> dict[str, float]:
    return {m.metric: m.value for m in read_bundle(bundle).description.training.measurements}


# Temperature


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 8.0])
def test_labels_drawn_from_the_network_at_a_temperature_give_that_temperature_back(true_temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(40_000, 7, generator=generator)
    labels = torch.multinomial((logits / true_temperature).softmax(dim=1), 1, generator=generator)[:, 0]
    pixels = LabelledLogits(logits, labels)
    found = best_temperature(pixels.cross_entropy)
    assert found == pytest.approx(true_temperature, rel=0.05)
    assert pixels.calibration_error(found) < 0.01
    for other in (found / 1.5, found * 1.5):
        assert pixels.cross_entropy(found) < pixels.cross_entropy(other)
        assert pixels.calibration_error(found) < pixels.calibration_error(other)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_network_that_is_more_certain_by_a_factor_is_cooled_by_that_factor(
    factor: float, bundle: Path, tree: Path, tmp_path: Path
) -> None:
    # An opened score has plateaus: on few pixels, rounding decides between two thresholds.
    data = ("--data", f"camvid:{tree / 'val'}", "--score", "jensen_shannon_to_uniform")
    assert main([str(bundle), *data, "--out", str(tmp_path / "plain")]) == 0
    scaled = with_scaled_logits(bundle, tmp_path / "scaled", factor)
    assert main([str(scaled), *data]) == 0
    plain, cooled = (read_bundle(tmp_path / name).description for name in ("plain", "scaled"))
    assert 0.1 < plain.score.temperature < 10
    assert cooled.score.temperature == pytest.approx(factor * plain.score.temperature, rel=2e-3)
    # Nothing that follows from logits / T has changed.
    for point, same in zip(plain.operating_points, cooled.operating_points, strict=True):
        assert same.threshold == pytest.approx(point.threshold, abs=1e-3)


def test_cross_entropy_and_calibration_error_get_better_and_are_recorded(calibrated: Path) -> None:
    found = measured(calibrated)
    chosen = f"{read_bundle(calibrated).description.score.temperature:g}"
    assert found.keys() == {
        f"{name} at temperature {temperature}" for name in ("cross-entropy", "ECE") for temperature in ("1", chosen)
    }
    for name in ("cross-entropy", "ECE"):
        assert found[f"{name} at temperature {chosen}"] < found[f"{name} at temperature 1"]
    for measurement in read_bundle(calibrated).description.training.measurements:
        assert measurement.data == "camvid (val, 6 frames)"
        assert measurement.command == "python -m training.calibrate models/tiny --data camvid:FOLDER/val"


def test_a_temperature_fitted_on_pasted_crops_is_the_lowest_of_the_best(
    bundle: Path, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fitted"
    assert main([str(bundle), "--data", f"camvid:{tree / 'val'}", "--fit", "negatives", "--out", str(out)]) == 0
    rates = temperatures_on_negatives(read_bundle(bundle), open_data_set("camvid", tree, "val"))
    description = read_bundle(out).description
    chosen = description.score.temperature
    assert rates[chosen] <= min(rates.values()) + NEGATIVE_MARGIN
    assert all(rate > min(rates.values()) + NEGATIVE_MARGIN for t, rate in rates.items() if t < chosen)
    assert measured(out)[f"FPR95 of pasted crops at temperature {chosen:g}"] == pytest.approx(rates[chosen], abs=1e-5)
    assert {m.command for m in description.training.measurements} == {
        "python -m training.calibrate models/tiny --data camvid:FOLDER/val --fit negatives"
    }


def test_the_temperature_on_pasted_crops_divides_the_logits(bundle: Path, tree: Path, tmp_path: Path) -> None:
    frames = open_data_set("camvid", tree, "val")
    twice = with_scaled_logits(bundle, tmp_path / "twice", 2.0)
    rates, rates_twice = (temperatures_on_negatives(read_bundle(path), frames) for path in (bundle, twice))
    assert rates_twice[2.0] == pytest.approx(rates[1.0], abs=1e-4)
    assert rates_twice[3.0] == pytest.approx(rates[1.5], abs=1e-4)
    assert rates[1.0] != pytest.approx(rates[10.0], abs=1e-4)


def test_one_frame_has_no_other_to_take_a_crop_from(
    bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one"
    for folder in ("images", "labels"):
        (one / folder).mkdir(parents=True)
        shutil.copy(min((tree / "val" / folder).iterdir()), one / folder)
    arguments = ["--data", f"camvid:{one}", "--fit", "negatives", "--out", str(tmp_path / "out")]
    assert main([str(bundle), *arguments]) == 2
    assert "two are needed" in capsys.readouterr().err


def test_calibration_changes_the_score_and_no_class(calibrated: Path, checkpoint: Path, tree: Path) -> None:
    before = calibrated.parent / "certain"
    for (old, _), (new, _) in zip(outputs(before, tree), outputs(calibrated, tree), strict=True):
        np.testing.assert_array_equal(old.semantic, new.semantic)
        assert np.abs(old.anomaly_score - new.anomaly_score).max() > 0.01


def test_the_graph_is_the_one_that_is_exported_at_that_temperature(
    bundle: Path, checkpoint: Path, tree: Path, tmp_path: Path
) -> None:
    calibrated, exported = tmp_path / "calibrated", tmp_path / "exported"
    assert main([str(bundle), "--data", f"camvid:{tree}@val", "--temperature", "2.5", "--out", str(calibrated)]) == 0
    assert export([str(checkpoint), str(exported), "--temperature", "2.5"]) == 0
    for (ours, _), (wanted, _) in zip(outputs(calibrated, tree), outputs(exported, tree), strict=True):
        np.testing.assert_allclose(ours.anomaly_score, wanted.anomaly_score, rtol=0, atol=1e-6)
    description = read_bundle(calibrated).description
    assert description.score.temperature == 2.5
    assert "cross-entropy at temperature 2.5" in measured(calibrated)
    command = description.training.measurements[0].command
    assert (
        command
        == "python -m training.calibrate models/tiny --data camvid:FOLDER/tree@val --temperature 2.5".replace(
            "FOLDER/tree", f"FOLDER/{tree.name}"
        )
    )


@pytest.mark.parametrize("score", ["kullback_leibler_to_uniform_opened", "maximum_logit_off_borders"])
def test_another_score_is_the_one_that_is_exported_with_it(
    score: str, bundle: Path, checkpoint: Path, tree: Path, tmp_path: Path
) -> None:
    rescored, exported = tmp_path / "rescored", tmp_path / "exported"
    data = ("--data", f"camvid:{tree}@val", "--temperature", "2.5")
    assert main([str(bundle), *data, "--score", score, "--out", str(rescored)]) == 0
    assert export([str(checkpoint), str(exported), "--temperature", "2.5", "--score", score]) == 0
    description = read_bundle(rescored).description
    assert (description.score.name, description.score.temperature) == (score, 2.5)
    assert f"--score {score}" in description.training.measurements[0].command
    for name in ("model.onnx", "model_fp16.onnx"):
        ours, wanted = (onnx.load(folder / name).graph for folder in (rescored, exported))
        assert sorted(node.op_type for node in ours.node) == sorted(node.op_type for node in wanted.node)
        assert {t.name for t in ours.initializer if "/" not in t.name} >= {TEMPERATURE}
    for (ours_, _), (wanted_, _) in zip(outputs(rescored, tree), outputs(exported, tree), strict=True):
        np.testing.assert_allclose(ours_.anomaly_score, wanted_.anomaly_score, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ours_.semantic, wanted_.semantic)
    half = read_bundle(rescored)
    half = replace(half, model=half.variant_bytes(half.description.variants[0]))
    for frame in open_data_set("camvid", tree, "val"):
        image = frame.image[None]
        first, second = (OnnxRuntimeEngine(one).run(image).anomaly_score for one in (half, read_bundle(rescored)))
        np.testing.assert_allclose(first, second, rtol=0, atol=0.02)
    # And back again: nothing of the other score is left.
    name = read_bundle(bundle).description.score.name
    assert main([str(rescored), *data, "--score", name]) == 0
    old, back = (onnx.load(folder / "model.onnx").graph for folder in (bundle, rescored))
    assert sorted(node.op_type for node in old.node) == sorted(node.op_type for node in back.node)


# The bundle


def test_the_calibrated_bundle_is_whole_and_the_original_as_it_was(
    bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    original = contents(bundle)
    assert main([str(bundle), "--data", f"camvid:{tree / 'val'}", "--out", str(tmp_path / "other")]) == 0
    assert contents(bundle) == original
    written = contents(tmp_path / "other")
    assert written.keys() == original.keys()
    description, old = (read_bundle(folder).description for folder in (tmp_path / "other", bundle))
    assert description.model_sha256 == hashlib.sha256(written["model.onnx"]).hexdigest()
    assert description.model_sha256 != old.model_sha256
    assert (description.name, old.name) == ("other", "tiny")
    unchanged = ("classes", "input", "weights_licence", "format_version")
    assert [getattr(description, key) for key in unchanged] == [getattr(old, key) for key in unchanged]
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'other'}: {DEFAULT_SCORE}, temperature {description.score.temperature:g}" in shown
    for point in description.operating_points:
        assert f"{point.name}: score >= {point.threshold:.4f} (" in shown


def test_without_out_the_bundle_itself_is_calibrated_and_again(bundle: Path, tree: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    for _ in range(2):
        assert main([str(own), "--data", f"camvid:{tree / 'val'}"]) == 0
    description = read_bundle(own).description
    assert description.name == "tiny"
    # The second time finds what the first one did, and replaces it.
    assert len(description.training.measurements) == 4
    assert len(description.operating_points) == 6
    assert {path.name for path in own.iterdir()} == {"model.onnx", "model_fp16.onnx", "bundle.yaml"}


def test_figures_of_the_score_at_another_temperature_are_not_kept(bundle: Path, tree: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    description = read_bundle(own).description
    earlier = tuple(Measurement(metric, 0.5, "somewhere", "a command") for metric in ("mIoU", "AP", "FPR95"))
    training = replace(description.training, measurements=earlier)
    write_description(own, replace(description, training=training))
    data = ("--data", f"camvid:{tree / 'val'}", "--temperature")
    assert main([str(own), *data, "1"]) == 0
    assert measured(own).keys() >= {"mIoU", "AP", "FPR95"}
    assert main([str(own), *data, "1.5"]) == 0
    assert measured(own)["mIoU"] == 0.5
    assert not measured(own).keys() & {"AP", "FPR95"}


# Thresholds


def test_the_thresholds_hold_on_the_frames_that_they_were_chosen_on(calibrated: Path, tree: Path) -> None:
    opened = read_bundle(calibrated)
    points = {point.name: point for point in opened.description.operating_points}
    assert list(points) == [f"{kind}_fpr_{rate}" for kind in ("inlier", "drivable") for rate in RATES]
    engine, frames = open_engine(opened, "onnxruntime"), open_data_set("camvid", tree, "val")
    shares = []
    for name, point in points.items():
        perception = Perception(engine, point.threshold, 11)
        perceived = [(perception(frame.image), frame.labels) for frame in frames]
        counted = [labels == ROAD if name.startswith("drivable") else labels != 255 for _, labels in perceived]
        mask, score = (
            np.concatenate([getattr(found, part)[these] for (found, _), these in zip(perceived, counted, strict=True)])
            for part in ("anomaly_mask", "anomaly_score")
        )
        share = float(mask.mean())
        rate = RATES[name.rpartition("_")[2]]
        assert share == pytest.approx(point.false_positive_rate, abs=1e-9)
        # None, where more pixels share the highest score: a tiny network has flat areas.
        assert share <= rate
        shares.append(share)
        # Any lower threshold marks more than that: the next score that there is may be that of many pixels.
        assert float((score >= score[~mask.astype(bool)].max()).mean()) > rate
        assert point.data == "camvid (val, 6 frames)"
        assert point.chosen_by == (
            f"the lowest threshold that at most {rate:.1%} of the {name.partition('_')[0]} pixels reach"
        )
    assert max(shares) > 0


def test_the_intervals_contain_what_they_are_of(calibrated: Path) -> None:
    for point in read_bundle(calibrated).description.operating_points:
        assert point.threshold_interval is not None
        assert point.false_positive_rate_interval is not None
        assert point.false_positive_rate is not None
        low, high = point.threshold_interval
        assert 0 <= low <= point.threshold <= high <= 1
        assert low < high
        low, high = point.false_positive_rate_interval
        assert 0 <= low <= point.false_positive_rate <= high <= 1


def points_of(frames: list[NDArray[np.float32]], labels: list[NDArray[np.uint8]]) -> dict[str, OperatingPoint]:
    points = inlier_operating_points(zip(frames, labels, strict=True), "synthetic", [ROAD])
    return {point.name: point for point in points}


def test_drivable_thresholds_are_chosen_on_road_pixels_alone() -> None:
    generator = np.random.default_rng(0)
    labels = [generator.choice([0, ROAD, 255], (40, 50), p=[0.5, 0.4, 0.1]).astype(np.uint8) for _ in range(3)]
    # The road scores low, the rest of the inliers high, and void highest.
    scores = [
        (generator.random(label.shape) * 0.2 + np.select([label == ROAD, label == 0], [0.1, 0.5], 0.8)).astype(
            np.float32
        )
        for label in labels
    ]
    points = points_of(scores, labels)
    for rate_name, rate in RATES.items():
        drivable, everywhere = points[f"drivable_fpr_{rate_name}"], points[f"inlier_fpr_{rate_name}"]
        road = np.concatenate([s[m == ROAD] for s, m in zip(scores, labels, strict=True)])
        assert drivable.threshold < 0.3 < 0.5 < everywhere.threshold < 0.7
        reached = np.sort(road)[::-1]
        assert drivable.threshold == pytest.approx(reached[int(rate * road.size) - 1])
    without_road = [np.where(label == ROAD, 0, label).astype(np.uint8) for label in labels]
    assert not any(name.startswith("drivable") for name in points_of(scores, without_road))


def test_frames_that_are_alike_give_a_narrow_interval_and_frames_that_differ_a_wide_one() -> None:
    generator = np.random.default_rng(1)
    frame = generator.random((60, 70)).astype(np.float32)
    label = np.zeros(frame.shape, np.uint8)
    alike = points_of([frame] * 8, [label] * 8)["inlier_fpr_0.01"]
    # 42 of the 4200 pixels of each frame: exactly as many as may be.
    assert alike.false_positive_rate == 0.01
    assert alike.threshold_interval is not None
    low, high = alike.threshold_interval
    assert low <= alike.threshold <= high
    assert high - low <= 2 / LEVELS
    differ = points_of([frame * np.float32(0.4 + 0.08 * k) for k in range(8)], [label] * 8)["inlier_fpr_0.01"]
    assert differ.threshold_interval is not None
    low, high = differ.threshold_interval
    assert low < 0.8 < differ.threshold < 0.9 < high
    assert high - low > 0.05
    # A single frame says nothing about others.
    alone = points_of([frame], [label])["inlier_fpr_0.01"]
    assert (alone.threshold_interval, alone.false_positive_rate_interval) == (None, None)


def test_the_interval_covers_the_threshold_of_all_frames_most_of_the_time() -> None:
    generator = np.random.default_rng(2)
    # Each frame has a level of its own.
    every = [np.clip(generator.beta(2, 8, 300) + 0.1 * generator.random(), 0, 1) for _ in range(2000)]
    truth = float(np.quantile(np.concatenate(every), 0.95))
    covered = 0
    for _ in range(20):
        scores = InlierScores()
        for index in generator.integers(0, len(every), 25):
            scores.update(every[index].astype(np.float32)[None], np.ones((1, 300), bool))
        threshold_interval, _ = scores.bootstrap(0.05, scores.threshold(0.05)[0])
        assert threshold_interval is not None
        covered += threshold_interval[0] <= truth <= threshold_interval[1]
    assert covered >= 16


@pytest.mark.parametrize(
    ("scores", "threshold", "rate"),
    [
        # Half of the pixels tied at the top: nothing but 1 leaves them out; if they are 1, nothing does.
        ([0.9, 0.9, 0.2, 0.1], 1.0, 0.0),
        ([1.0, 1.0, 0.2, 0.1], 1.0, 0.5),
    ],
)
def test_ties_at_the_top_are_said_and_not_hidden(scores: list[float], threshold: float, rate: float) -> None:
    frame = np.array([scores], np.float32)
    point = points_of([frame, frame], [np.zeros(frame.shape, np.uint8)] * 2)["inlier_fpr_0.05"]
    assert (point.threshold, point.false_positive_rate) == (threshold, rate)
    assert point.threshold_interval is not None
    assert point.threshold_interval[0] <= threshold <= point.threshold_interval[1]


# What is refused


def calibrate(bundle: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a calibration that must fail and leave the bundle as it was."""
    before = (bundle / "bundle.yaml").read_bytes(), (bundle / "model.onnx").read_bytes()
    assert main([str(bundle), *arguments]) == 2
    assert ((bundle / "bundle.yaml").read_bytes(), (bundle / "model.onnx").read_bytes()) == before
    return capsys.readouterr().err


def test_a_bundle_that_was_trained_without_a_class_is_calibrated_without_it(
    bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    opened = read_bundle(own)
    graph = onnx.load_from_string(opened.model)
    (row,) = [number for number, known in enumerate(opened.description.classes) if known.name == "bicyclist"]
    for tensor in graph.graph.initializer:
        if tensor.name in (LOGITS_WEIGHT, LOGITS_WEIGHT.replace("weight", "bias")):
            values = np.delete(onnx.numpy_helper.to_array(tensor), row, axis=0)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    # The class ids are then found among one class fewer.
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.name == UP_SAMPLING:
            values = values[len(values) // len(opened.description.classes) :]  # every class has the same kernels
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        elif tensor.name == f"{PREFIX}/by_class":
            tensor.CopyFrom(onnx.numpy_helper.from_array(values - np.array([0, 1, 0, 0]), tensor.name))
    [convolution] = [node for node in graph.graph.node if UP_SAMPLING in node.input]
    [groups] = [attribute for attribute in convolution.attribute if attribute.name == "group"]
    groups.i -= 1
    classes = tuple(known for known in opened.description.classes if known.name != "bicyclist")
    classes = tuple(replace(known, id=number) for number, known in enumerate(classes))
    write_bundle(own, replace(opened.description, classes=classes, operating_points=()), graph.SerializeToString())
    data = ("--data", f"camvid:{tree / 'val'}")
    assert main([str(own), *data]) == 2
    capsys.readouterr()
    assert main([str(own), *data, "--held-out", "bicyclist"]) == 0
    description = read_bundle(own).description
    assert description.operating_points
    assert description.training.measurements[-1].command.endswith("--held-out bicyclist")


def test_frames_with_anomalies_are_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_anomalies(tmp_path / "anomalies")
    for name in ("images_and_masks", "smiyc_anomaly_val", "camvid_static"):
        message = calibrate(bundle, capsys, "--data", f"{name}:{folder}")
        assert f"calibrate: {name} has anomalies; calibrate on frames of known classes only" in message


def test_other_classes_no_labels_and_broken_frames_are_named(
    bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("image_2", "semantic"):
        (tmp_path / "kitti" / "training" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "kitti" / "training" / part / "0_10.png"), np.full((40, 60), 7, np.uint8))
    assert "kitti: the bundle's classes are ['sky'" in calibrate(
        bundle, capsys, "--data", f"kitti:{tmp_path / 'kitti'}"
    )

    folder = Path(shutil.copytree(tree, tmp_path / "camvid"))
    data = ("--data", f"camvid:{folder / 'val'}")
    for path in (folder / "val" / "labels").iterdir():
        cv2.imwrite(str(path), np.full((96, 128), 11, np.uint8))
    assert "none of the frames has a labelled pixel" in calibrate(bundle, capsys, *data)
    (folder / "val" / "images" / "val_002.png").write_bytes(b"no image")
    assert "images/val_002.png: not a decodable image" in calibrate(bundle, capsys, *data)
    assert "nowhere/images: no such folder" in calibrate(bundle, capsys, "--data", f"camvid:{tmp_path / 'nowhere'}")


def without(bundle: Path, folder: Path, name: str) -> Path:
    """The bundle with another name for one of its tensors, as another version might have exported it."""
    opened: Bundle = read_bundle(bundle)
    graph = onnx.load_from_string(opened.model)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for index, there in enumerate(names):
                if there == name:
                    names[index] = "renamed"
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            tensor.name = "renamed"
    write_bundle(folder, opened.description, graph.SerializeToString())
    return folder


@pytest.mark.filterwarnings("ignore:no confidences")
@pytest.mark.parametrize(
    ("name", "message"),
    [(LOGITS, "has no tensor 'logits'; export the bundle again"), (TEMPERATURE, "has no initializer 'temperature'")],
)
def test_a_graph_without_the_named_parts_is_refused_with_the_remedy(
    name: str, message: str, bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = without(bundle, tmp_path / "other", name)
    assert message in calibrate(other, capsys, "--data", f"camvid:{tree / 'val'}")


@pytest.mark.parametrize("temperature", ["0", "-1", "nan", "inf"])
def test_an_impossible_temperature_is_refused(
    temperature: str, bundle: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle), "--data", f"camvid:{tree / 'val'}", "--temperature", temperature])
    assert f"--temperature: is {temperature}; it must be a number from 0.001" in capsys.readouterr().err
