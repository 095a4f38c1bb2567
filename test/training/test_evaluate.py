"""`python -m training.evaluate` as its user runs it, on tiny trees and a tiny bundle."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from synthetic_camvid import write_anomalies

from ros_ood_perception.bundle.model_bundle import OperatingPoint, read_bundle, write_description
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from training.bundles.graph import LogitsEngine
from training.data.label_set import CAMVID
from training.data.labelled_frames import LabelledFrame
from training.data.registry import DATA_SETS, open_data_set
from training.evaluate import main
from training.evaluation import bundle_evaluation
from training.evaluation.set_evaluation import SetEvaluation
from training.evaluation.smiyc_scores import harness_folder, score_of_submitted, submitted
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.component_smiyc import OBSTACLE_TRACK, SmiycComponentMetrics
from training.metrics.error_monitor import ErrorMonitorMetrics
from training.metrics.per_image_overlap import PerImageOverlap, SharedFalsePositiveRate
from training.metrics.pixel_smiyc import SmiycPixelMetrics
from training.metrics.scores_by_class import BINS
from training.metrics.semantic import ConfusionMatrix
from training.metrics.threshold_curves import ThresholdCurveMetrics
from training.segmenter.anomaly_scores import SCORES
from training.segmenter.deployed_segmenter import DEFAULT_SCORE


@dataclass(frozen=True)
class Run:
    """What a run of the command line left.

    Attributes:
        code: the exit code.
        output: the JSON; empty where none was written.
        stdout, stderr: what it printed.
        folder: `report.html` lies there, and what `--save-scores` wrote in `scores/`.
    """

    code: int
    output: dict[str, Any]
    stdout: str
    stderr: str
    folder: Path

    @property
    def sets(self) -> dict[str, Any]:
        return self.output["sets"]


def evaluate(bundle: Path, folder: Path, *arguments: str) -> Run:
    stdout, stderr = io.StringIO(), io.StringIO()
    result, out = folder / "more" / "result.json", folder / "evaluation"
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main([str(bundle), "--out", str(out), "--json", str(result), *arguments])
    output = json.loads(result.read_text()) if result.is_file() else {}
    return Run(code, output, stdout.getvalue(), stderr.getvalue(), out)


@pytest.fixture(scope="module")
def anomalies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_anomalies(tmp_path_factory.mktemp("data") / "anomalies")


@pytest.fixture(scope="module")
def run(bundle: Path, tree: Path, anomalies: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two sets with every score, all of it written."""
    folder = tmp_path_factory.mktemp("evaluation")
    scores = [part for name in SCORES for part in ("--score", name)]
    sets = ["--data", f"camvid:{tree}@val", "--data", f"smiyc_obstacle_tiny:{anomalies}"]
    return evaluate(
        bundle, folder, *sets, *scores, "--score", "entropy@2", "--save-scores", str(folder / "evaluation" / "scores")
    )


@pytest.fixture(scope="module")
def perceived(bundle: Path, anomalies: Path) -> list[tuple[LabelledFrame, NDArray[np.float32]]]:
    """The frames of `anomalies` with the anomaly scores that the node would publish."""
    perception = Perception(open_engine(read_bundle(bundle), "onnxruntime"), 1.0, 11)
    return [(frame, perception(frame.image).anomaly_score) for frame in open_data_set("images_and_masks", anomalies)]


def copied(tree: Path, folder: Path) -> Path:
    return Path(shutil.copytree(tree, folder))


# The figures

EXACT_FIGURES = {"frames", "exact", "threshold_curves", "per_image_overlap"}
ANOMALY_FIGURES = EXACT_FIGURES | {"official", "per_image", "component"}


def test_a_set_with_classes_has_semantic_figures_and_none_of_anomalies(run: Run, bundle: Path, tree: Path) -> None:
    assert run.code == 0
    found = run.sets["camvid"]
    assert found.keys() == {"frames", "semantic", "scores_by_class", "error_monitor", "operating_points"}
    assert found["frames"] == 6
    assert found["semantic"].keys() == {"mIoU", "IoU", "ECE"}
    assert list(found["semantic"]["IoU"]) == [known.name for known in CAMVID]

    opened = read_bundle(bundle)
    perception = Perception(open_engine(opened, "onnxruntime"), 1.0, 11)
    confusion = ConfusionMatrix(11)
    of_roads = []
    for frame in open_data_set("camvid", tree, "val"):
        result = perception(frame.image)
        confusion.update(result.semantic, frame.labels)
        of_roads.append(result.anomaly_score[frame.labels == 3])
    roads = np.concatenate(of_roads)
    by_class = found["scores_by_class"]
    assert by_class.keys() == {"median", "marked"}
    assert by_class["median"]["road"] == pytest.approx(np.median(roads), abs=1 / BINS)
    threshold = opened.description.operating_points[0].threshold
    near = np.mean(np.abs(roads - threshold) < 1 / BINS)
    assert by_class["marked"]["road"] == pytest.approx(np.mean(roads >= threshold), abs=near + 1e-6)
    assert list(found["semantic"]["IoU"].values()) == pytest.approx(confusion.iou().tolist())
    assert found["semantic"]["mIoU"] == pytest.approx(confusion.mean_iou())
    assert 0 < found["semantic"]["ECE"] < 1


def test_a_set_with_anomalies_has_pixel_and_component_figures_and_none_of_classes(
    run: Run, perceived: list[tuple[LabelledFrame, NDArray[np.float32]]]
) -> None:
    found = run.sets["smiyc_obstacle_tiny"]
    assert found.keys() == ANOMALY_FIGURES | {"operating_points"}
    assert found["exact"].keys() == found["per_image"].keys() == {"AP", "FPR95", "AUROC"}
    assert found["official"].keys() == {"AP", "FPR95", "AUROC", "best_f1", "threshold"}
    assert found["component"].keys() >= {"sIoU", "PPV", "mean_F1"}

    counted = [(score[frame.anomaly != 255], frame.anomaly[frame.anomaly != 255]) for frame, score in perceived]
    scores, labels = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    assert found["exact"]["AP"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    official = SmiycPixelMetrics()
    for frame, score in perceived:
        official.update(submitted(score), frame.anomaly)
    figures = official.compute()
    assert found["official"]["AP"] == pytest.approx(figures.ap)
    assert found["official"]["best_f1"] == pytest.approx(figures.best_f1)
    # Told as a threshold on the score, not on what is handed in.
    assert found["official"]["threshold"] == pytest.approx(2 ** (figures.threshold - 0.5))
    components = SmiycComponentMetrics(figures.threshold, OBSTACLE_TRACK)
    for frame, score in perceived:
        components.update(submitted(score), frame.anomaly)
    assert found["component"]["sIoU"] == pytest.approx(components.compute().siou)
    assert found["component"]["mean_F1"] == pytest.approx(components.compute().mean_f1)
    assert found["component"]["true_components"] == 4
    assert found["component"]["minimum_size"] == {"predicted": 50, "true": 10}


def test_the_figures_of_reliability_are_those_of_what_the_node_would_publish(
    run: Run, bundle: Path, tree: Path, perceived: list[tuple[LabelledFrame, NDArray[np.float32]]]
) -> None:
    curves, shared = ThresholdCurveMetrics(), SharedFalsePositiveRate()
    for frame, score in perceived:
        curves.update(score, frame.anomaly)
        shared.update(submitted(score), frame.anomaly)
    overlap = PerImageOverlap(shared)
    for frame, score in perceived:
        overlap.update(submitted(score), frame.anomaly)
    found = run.sets["smiyc_obstacle_tiny"]
    assert found["threshold_curves"]["AUTC"] == pytest.approx(curves.compute().autc)
    assert found["per_image_overlap"]["AUPIMO"] == pytest.approx(overlap.compute().aupimo)
    assert found["per_image_overlap"]["images"] == sum((frame.anomaly == 1).any() for frame, _ in perceived)
    on = "normal images" if any(not (frame.anomaly == 1).any() for frame, _ in perceived) else "inlier pixels"
    assert found["per_image_overlap"]["false_positives_on"] == on
    monitor = ErrorMonitorMetrics()
    perception = Perception(open_engine(read_bundle(bundle), "onnxruntime"), 1.0, 11)
    for frame in open_data_set("camvid", tree, "val"):
        result = perception(frame.image)
        monitor.update(result.anomaly_score, result.semantic, frame.labels, frame.anomaly)
    expected = monitor.compute()
    found = run.sets["camvid"]["error_monitor"]
    assert found["error_rate"] == pytest.approx(expected.error_rate)
    assert found["AUROC"] == pytest.approx(expected.auroc, abs=1e-6)
    assert found["AURC"] == pytest.approx(expected.aurc, abs=1e-6)
    assert f"AURC {100 * expected.aurc:.2f} % ({100 * expected.excess_aurc:.2f} % above" in run.stdout


def test_every_figure_is_a_fraction(run: Run) -> None:
    def figures(found: Any) -> list[float]:
        if isinstance(found, dict):
            counts = {"frames", "minimum_size", "true_components", "predicted_components", "images"}
            counts |= {"false_positives_on"}
            return [value for key, part in found.items() if key not in counts for value in figures(part)]
        return [found]

    numbers = figures(run.sets) + figures(run.output["scores"])
    assert len(numbers) > 100
    assert all(value is None or 0 <= value <= 1 for value in numbers)


def test_operating_points_are_measured_at_their_thresholds(
    run: Run, bundle: Path, perceived: list[tuple[LabelledFrame, NDArray[np.float32]]]
) -> None:
    found = run.sets["smiyc_obstacle_tiny"]["operating_points"]
    points = read_bundle(bundle).description.operating_points
    assert list(found) == [point.name for point in points]
    for point in points:
        marked = {
            kind: [(s >= np.float32(point.threshold))[f.anomaly == kind] for f, s in perceived] for kind in (0, 1)
        }
        assert found[point.name]["threshold"] == point.threshold
        assert found[point.name]["false_positive_rate"] == pytest.approx(np.concatenate(marked[0]).mean())
        assert found[point.name]["true_positive_rate"] == pytest.approx(np.concatenate(marked[1]).mean())
    # They were chosen on the frames of the other set, where some pixels are on the threshold.
    there = run.sets["camvid"]["operating_points"]
    for point in points[:3]:
        assert there[point.name] == {"threshold": point.threshold, "false_positive_rate": point.false_positive_rate}


def test_the_terminal_shows_the_figures_in_percent(run: Run) -> None:
    found = run.sets["smiyc_obstacle_tiny"]
    row = next(line for line in run.stdout.splitlines() if "(the bundle's)" in line)
    assert f"{100 * found['exact']['AP']:.2f}" in row
    assert f"{100 * found['component']['mean_F1']:.2f}" in row
    assert f"{100 * run.sets['camvid']['semantic']['mIoU']:.2f}" in run.stdout
    assert re.search(r"inlier_fpr_0\.05 \(score >= 0\.\d{4}\) marks \d+\.\d\d % of the inlier pixels, ", run.stdout)


# Other scores


def test_other_scores_are_measured_beside_the_bundles_own(run: Run) -> None:
    assert run.output["score"] == DEFAULT_SCORE
    assert set(run.output["scores"]) == {*SCORES, "entropy@2"}
    for name, found in run.output["scores"].items():
        # The bundle's classes and operating points are not the other scores'.
        assert found["sets"].keys() == {"smiyc_obstacle_tiny"}
        figures = found["sets"]["smiyc_obstacle_tiny"]
        assert figures.keys() == ANOMALY_FIGURES
        assert re.search(rf"^│ {re.escape(name)} .*{100 * figures['exact']['AP']:.2f}", run.stdout, re.MULTILINE), name
    different = {found["sets"]["smiyc_obstacle_tiny"]["exact"]["AP"] for found in run.output["scores"].values()}
    assert len(different) >= 6


def test_the_exact_figures_alone_are_the_same_figures(run: Run, bundle: Path, anomalies: Path, tmp_path: Path) -> None:
    data = ("--data", f"smiyc_obstacle_tiny:{anomalies}", "--score", "entropy@2")
    alone = evaluate(bundle, tmp_path, *data, "--exact-only")
    assert alone.code == 0
    name = "smiyc_obstacle_tiny"
    assert alone.sets[name].keys() == run.sets[name].keys() - {"official", "per_image", "component"}
    assert alone.sets[name]["exact"] == run.sets[name]["exact"]
    other = alone.output["scores"]["entropy@2"]["sets"][name]
    assert other == {key: run.output["scores"]["entropy@2"]["sets"][name][key] for key in EXACT_FIGURES}
    assert "official AP" in run.stdout
    assert "official AP" not in alone.stdout
    assert "AP official" not in (tmp_path / "evaluation" / "report.html").read_text()


def test_the_bundles_own_score_asked_for_again_is_the_same_and_replaces_nothing(run: Run) -> None:
    again = run.output["scores"][DEFAULT_SCORE]["sets"]["smiyc_obstacle_tiny"]
    own = run.sets["smiyc_obstacle_tiny"]
    assert again["exact"] == pytest.approx(own["exact"], abs=1e-4)
    assert "operating_points" in own
    assert "semantic" in run.sets["camvid"]


@pytest.mark.parametrize("name", ["kullback_leibler_to_uniform", "energy"])
def test_another_score_is_what_a_bundle_with_that_score_computes(
    name: str, run: Run, checkpoint: Path, anomalies: Path, tmp_path: Path
) -> None:
    from training.export import main as export

    assert export([str(checkpoint), str(tmp_path / "other"), "--score", name]) == 0
    alone = evaluate(tmp_path / "other", tmp_path, "--data", f"smiyc_obstacle_tiny:{anomalies}")
    wanted = alone.sets["smiyc_obstacle_tiny"]["exact"]
    assert run.output["scores"][name]["sets"]["smiyc_obstacle_tiny"]["exact"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("text", ["nothing", "entropy@0", "entropy@x", "entropy@inf", "@2"])
def test_a_score_that_does_not_exist_is_refused_with_those_that_do(
    text: str, bundle: Path, anomalies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle), "--data", f"images_and_masks:{anomalies}", "--score", text])
    assert f"'{text}' is not NAME or NAME@T with T > 0 and NAME one of jensen_shannon" in capsys.readouterr().err


# Undefined figures


def test_a_set_without_anomaly_pixels_has_null_and_not_zero(bundle: Path, anomalies: Path, tmp_path: Path) -> None:
    tree = copied(anomalies, tmp_path / "tree")
    for path in (tree / "labels_masks").iterdir():
        cv2.imwrite(str(path), np.zeros((96, 128), np.uint8))
    run = evaluate(bundle, tmp_path, "--data", f"images_and_masks:{tree}", "--score", "entropy")
    assert run.code == 0
    for sets in (run.sets, run.output["scores"]["entropy"]["sets"]):
        found = sets["images_and_masks"]
        assert found["exact"] == found["per_image"] == dict.fromkeys(("AP", "FPR95", "AUROC"))
        assert found["official"] == dict.fromkeys(("AP", "FPR95", "AUROC", "best_f1", "threshold"))
        assert found["component"] == dict.fromkeys(("sIoU", "PPV", "mean_F1"))
    point = run.sets["images_and_masks"]["operating_points"]["inlier_fpr_0.05"]
    assert point["true_positive_rate"] is None
    assert 0 <= point["false_positive_rate"] <= 1
    assert run.stdout.count("undefined") >= 16
    assert "undefined" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_class_that_does_not_occur_is_null(bundle: Path, tree: Path, tmp_path: Path) -> None:
    folder = copied(tree, tmp_path / "tree")
    for path in (folder / "val" / "labels").iterdir():
        cv2.imwrite(str(path), np.full((96, 128), 11, np.uint8))
    run = evaluate(bundle, tmp_path, "--data", f"camvid:{folder / 'val'}")
    assert run.sets["camvid"]["semantic"] == {"mIoU": None, "IoU": dict.fromkeys(known.name for known in CAMVID)}
    assert run.sets["camvid"]["operating_points"]["inlier_fpr_0.01"]["false_positive_rate"] is None
    assert "undefined" in run.stdout


# Frames that cannot be used


@pytest.fixture
def damaged(anomalies: Path, tmp_path: Path) -> Path:
    """Five frames, of which only `frame0003` can be used; one of the names has square brackets."""
    folder = copied(anomalies, tmp_path / "damaged")
    (folder / "images" / "frame0000.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / "labels_masks" / "frame0001_labels_semantic.png"), np.zeros((48, 64), np.uint8))
    cv2.imwrite(str(folder / "labels_masks" / "frame0002_labels_semantic.png"), np.full((96, 128), 7, np.uint8))
    shutil.copy(folder / "images" / "frame0003.png", folder / "images" / "night[bold].png")
    (folder / "labels_masks" / "night[bold]_labels_semantic.png").write_bytes(b"\x89PNG cut off")
    return folder


MESSAGES = (
    r"images/frame0000\.png: not a decodable image",
    r"frame0001_labels_semantic\.png: labels are 48x64, the image frame0001\.png is 96x128 \(height x width\)",
    r"frame0002_labels_semantic\.png: label value\(s\) \[7\]; images and masks has 0 to 1, 255",
    r"labels_masks/night\[bold\]_labels_semantic\.png: not a decodable image",
)


def test_broken_frames_are_named_at_once_and_at_the_end_and_the_others_are_measured(
    bundle: Path, damaged: Path, perceived: list[tuple[LabelledFrame, NDArray[np.float32]]], tmp_path: Path
) -> None:
    run = evaluate(bundle, tmp_path, "--data", f"images_and_masks:{damaged}", "--score", "entropy")
    assert run.code == 1
    during, at_the_end = run.stderr.split("evaluate: 4 frame(s) left out:")
    for message in MESSAGES:
        assert re.search(f"left out: .*{message}", during)
        assert re.search(message, at_the_end)
    found = run.sets["images_and_masks"]
    assert found["frames"] == 1
    assert len(found["left_out"]) == 4
    assert run.output["scores"]["entropy"]["sets"]["images_and_masks"]["left_out"] == found["left_out"]
    frame, score = perceived[3]
    counted = frame.anomaly != 255
    assert found["exact"]["AP"] == pytest.approx(average_precision_score(frame.anomaly[counted], score[counted]))
    report = (tmp_path / "evaluation" / "report.html").read_text()
    assert "night[bold]_labels_semantic.png" in report


def test_a_set_of_broken_frames_only_does_not_cost_the_other_sets(
    bundle: Path, tree: Path, anomalies: Path, tmp_path: Path
) -> None:
    folder = copied(anomalies, tmp_path / "broken")
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    run = evaluate(bundle, tmp_path, "--data", f"images_and_masks:{folder}", "--data", f"camvid:{tree / 'val'}")
    assert run.code == 1
    assert "4 frame(s) left out" in run.stderr
    assert run.sets["camvid"]["frames"] == 6
    assert run.sets["images_and_masks"]["frames"] == 0
    assert set(run.sets["images_and_masks"]["exact"].values()) == {None}
    assert (tmp_path / "evaluation" / "report.html").is_file()
    alone = evaluate(bundle, tmp_path / "alone", "--data", f"images_and_masks:{folder}")
    assert alone.code == 2
    assert "evaluate: none of the frames could be read" in alone.stderr


def test_a_set_with_void_in_place_of_its_anomalies_says_so(bundle: Path, anomalies: Path, tmp_path: Path) -> None:
    folder = copied(anomalies, tmp_path / "masks")
    for path in folder.glob("labels*/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 1, 255, 0).astype(np.uint8))
    run = evaluate(bundle, tmp_path, "--data", f"images_and_masks:{folder}", "--score", "entropy")
    assert run.code == 1
    message = r"images_and_masks: no pixel of its 4 frame\(s\) is labelled as an anomaly, and \d+ are void \(255\)"
    assert re.search(f"^evaluate: {message}", run.stderr, re.MULTILINE), run.stderr
    assert re.search(message, run.sets["images_and_masks"]["void_for_anomalies"])


def test_scores_that_are_nan_end_the_run_with_the_frame_named(
    bundle: Path, anomalies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = LogitsEngine.run, []

    def breaks_at_the_third(self: LogitsEngine, images: NDArray[np.uint8]) -> EngineOutput:
        calls.append(1)
        output = whole(self, images)
        return replace(output, anomaly_score=output.anomaly_score * np.float32("nan")) if len(calls) == 3 else output

    monkeypatch.setattr(LogitsEngine, "run", breaks_at_the_third)
    run = evaluate(bundle, tmp_path, "--data", f"images_and_masks:{anomalies}")
    assert run.code == 2
    assert "evaluate: images_and_masks, frame frame0002: the engine" in run.stderr
    assert "gave anomaly scores that are not in [0, 1]" in run.stderr


@pytest.mark.parametrize("exact_only", [False, True])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_scores_are_refused_with_the_frame_and_their_number(value: float, exact_only: bool) -> None:
    labels = np.zeros((4, 4), np.uint8)
    score = np.full((4, 4), 0.5, np.float32)
    score[0, :3] = value
    frame = LabelledFrame("frame7", np.zeros((4, 4, 3), np.uint8), labels, labels)
    evaluation = SetEvaluation("images_and_masks", ["road"], True, exact_only=exact_only)
    with pytest.raises(
        MetricInputError, match="frame frame7: the score is infinite at 3 of 16 pixels; scores are from 0"
    ):
        evaluation.update(frame, labels, score, None)
    evaluation.close()


# Mistakes on the command line


def test_mistakes_in_the_data_are_named_before_anything_is_measured(
    bundle: Path, tree: Path, anomalies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_evaluation, "run_set", lambda *arguments: pytest.fail("a set was measured"))
    good = f"images_and_masks:{anomalies}"
    empty = tmp_path / "empty"
    (empty / "images").mkdir(parents=True)
    (empty / "labels").mkdir()
    for wrong, message in (
        (f"camvid:{tmp_path}/nowhere", r"nowhere/images: no such folder; CamVid is available from http"),
        (f"camvid:{tree}@test", r"test/images: no such folder"),
        (f"smiyc_anomaly:{anomalies}@test", r"has no split 'test'; it has validation"),
        (f"images_and_masks_b:{empty}", r"empty: no frames of images and masks there; it is available from"),
        (good, r"--data: images_and_masks, images_and_masks: the same NAME twice; tell them apart as NAME_WORD"),
    ):
        run = evaluate(bundle, tmp_path, "--data", good, "--data", wrong)
        assert run.code == 2
        assert re.search(f"^evaluate: .*{message}", run.stderr, re.MULTILINE), run.stderr
        assert not run.output


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_measured(
    option: str, bundle: Path, anomalies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_evaluation, "run_set", lambda *arguments: pytest.fail("a set was measured"))
    (tmp_path / "file").write_text("in the way")
    run = evaluate(
        bundle, tmp_path, "--data", f"images_and_masks:{anomalies}", option, str(tmp_path / "file" / "x" / "y")
    )
    assert run.code == 2
    assert str(tmp_path / "file") in run.stderr


def test_a_set_with_other_classes_is_refused_and_one_with_anomalies_too_measured_without_its_classes(
    bundle: Path, tmp_path: Path
) -> None:
    folders = {"kitti": ("training/image_2", "training/semantic"), "streethazards_test": ("images", "annotations")}
    for part in folders["kitti"]:
        (tmp_path / "kitti" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "kitti" / part / "000000_10.png"), np.full((40, 60), 7, np.uint8))
    run = evaluate(bundle, tmp_path, "--data", f"kitti:{tmp_path / 'kitti'}")
    assert run.code == 2
    assert re.search(r"kitti: the bundle's classes are \['sky', .*\]; the data set's are \['road', ", run.stderr)

    for town in ("t5", "t6"):
        for part in folders["streethazards_test"]:
            folder = tmp_path / "street" / "test" / part / "test" / town
            folder.mkdir(parents=True)
            values = np.full((40, 60), 2, np.uint8)
            values[10:30, 10:30] = 14
            cv2.imwrite(str(folder / "300.png"), values)
    run = evaluate(bundle, tmp_path, "--data", f"streethazards_test:{tmp_path / 'street'}")
    assert run.code == 0
    assert run.stderr.count("its classes differ from those of the bundle; only anomalies are measured") == 1
    assert "semantic" not in run.sets["streethazards_test"]
    assert run.sets["streethazards_test"]["exact"]["AP"] > 0


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing:folder", "there is no data set 'nothing'; there are bdd100k, camvid, camvid_static, "),
        ("folder", "'folder' is not NAME:PATH or NAME:PATH@SPLIT"),
        ("camvid:", "'camvid:' is not NAME:PATH or NAME:PATH@SPLIT"),
    ],
)
def test_a_data_argument_that_cannot_be_read_is_refused(
    argument: str, message: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle), "--data", argument])
    assert message in capsys.readouterr().err


def test_a_folder_may_have_an_at_sign_in_its_name(
    bundle: Path, anomalies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(anomalies, tmp_path / "drive@night")
    assert evaluate(bundle, tmp_path, "--data", f"images_and_masks:{folder}").code == 0
    assert evaluate(bundle, tmp_path, "--data", f"images_and_masks:{tmp_path}@drive@night").code == 2
    (tmp_path / "split").mkdir()
    copied(anomalies, tmp_path / "split" / "night")
    assert evaluate(bundle, tmp_path, "--data", f"images_and_masks:{tmp_path / 'split'}@night").code == 0


def test_something_must_be_given_and_the_names_are_listed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle)])
    assert "give a bundle and at least one --data NAME:PATH (--list shows the names)" in capsys.readouterr().err
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    for name in (*DATA_SETS, *SCORES, "http://bdd-data.berkeley.edu"):
        assert name in listed


def test_a_bundle_that_is_none_is_named(anomalies: Path, tmp_path: Path) -> None:
    run = evaluate(tmp_path / "nowhere", tmp_path, "--data", f"images_and_masks:{anomalies}")
    assert run.code == 2
    assert f"evaluate: {tmp_path / 'nowhere'}: no such bundle folder" in run.stderr


# What is written


def test_figures_and_their_command_are_recorded_in_the_bundle_and_replaced_by_newer_ones(
    bundle: Path, tree: Path, anomalies: Path, tmp_path: Path
) -> None:
    own = copied(bundle, tmp_path / "tiny")
    sets = ("--data", f"camvid:{tree / 'val'}", "--data", f"images_and_masks:{anomalies}")
    run = evaluate(own, tmp_path, *sets, "--record")
    assert run.code == 0
    recorded = read_bundle(own).description.training.measurements
    assert {(m.metric, m.data): m.value for m in recorded} == pytest.approx(
        {
            ("mIoU", "camvid (val, 6 frames)"): run.sets["camvid"]["semantic"]["mIoU"],
            ("AP", "images_and_masks (anomalies, 4 frames)"): run.sets["images_and_masks"]["exact"]["AP"],
            ("FPR95", "images_and_masks (anomalies, 4 frames)"): run.sets["images_and_masks"]["exact"]["FPR95"],
        },
        abs=5.1e-5,
    )
    assert recorded[0].command == "python -m training.evaluate models/tiny --data camvid:FOLDER/val"

    # What something else measured on the same frames stays.
    description = read_bundle(own).description
    other = replace(recorded[0], metric="ECE at temperature 1")
    wrong = replace(recorded[0], value=0.123)
    training = replace(description.training, measurements=(other, wrong))
    write_description(own, replace(description, training=training))
    assert evaluate(own, tmp_path, "--data", f"camvid:{tree / 'val'}", "--record").code == 0
    assert read_bundle(own).description.training.measurements == (other, recorded[0])


def test_sizes_that_are_left_out_are_not_measured(bundle: Path, bundle_of_two_sizes: Path, tmp_path: Path) -> None:
    wide = ("--data", f"images_and_masks:{write_anomalies(tmp_path / 'wide', size=(96, 240))}", "--exact-only")
    exact = [
        evaluate(one, tmp_path / name, *wide, *more).sets["images_and_masks"]["exact"]
        for name, one, more in (
            ("two", bundle_of_two_sizes, ()),
            ("limited", bundle_of_two_sizes, ("--max-input-height", "63")),
            ("one", bundle, ()),
        )
    ]
    assert exact[1] == exact[2] != exact[0]
    run = evaluate(bundle_of_two_sizes, tmp_path / "recorded", *wide, "--max-input-height", "63", "--record")
    assert run.code == 2
    assert "--record writes the figures of the whole bundle; leave --max-input-height out" in run.stderr


def test_nothing_is_recorded_unless_asked_for(run: Run, bundle: Path) -> None:
    assert read_bundle(bundle).description.training.measurements == ()


def test_saved_scores_have_the_layout_of_the_harness(
    run: Run, bundle: Path, perceived: list[tuple[LabelledFrame, NDArray[np.float32]]]
) -> None:
    files = sorted(path.relative_to(run.folder / "scores").as_posix() for path in run.folder.rglob("*.hdf5"))
    assert files == sorted(
        [f"anomaly_p/{bundle.name}/ObstacleTrack-all/frame{number:04d}.hdf5" for number in range(4)]
        + [f"anomaly_p/{bundle.name}/camvid/val_{number:03d}.hdf5" for number in range(6)]
    )
    assert not [path for path in (run.folder / "scores").rglob("*") if path.is_file() and path.suffix != ".hdf5"]
    for frame, score in perceived:
        with h5py.File(
            run.folder / "scores" / "anomaly_p" / bundle.name / "ObstacleTrack-all" / f"{frame.name}.hdf5"
        ) as file:
            assert list(file) == ["value"]
            value = file["value"][:]
        assert value.dtype == np.float16
        assert value.shape == (96, 128)
        np.testing.assert_array_equal(value, submitted(score))


@pytest.mark.parametrize(
    ("registered", "split", "folder"),
    [
        ("smiyc_anomaly", None, "AnomalyTrack-all"),
        ("smiyc_obstacle", "validation", "ObstacleTrack-all"),
        ("smiyc_lostandfound", None, "LostAndFound-test"),
        ("smiyc_lostandfound", "testNoKnown", "LostAndFound-test"),
        ("smiyc_lostandfound", "trainValid", "LostAndFound-train"),
        ("road_anomaly", None, "own_name"),
    ],
)
def test_scores_go_where_the_harness_looks_for_those_of_the_whole_set(
    registered: str, split: str | None, folder: str
) -> None:
    assert harness_folder(registered, "own_name", split) == folder


def test_the_hidden_frames_of_a_benchmark_are_scored_too_and_broken_ones_named(
    bundle: Path, anomalies: Path, tmp_path: Path
) -> None:
    root = tmp_path / "benchmark"
    root.mkdir()
    folder = copied(anomalies, root / "dataset_AnomalyTrack")
    (folder / "labels_masks" / "frame0002_labels_semantic.png").unlink()
    (folder / "labels_masks" / "frame0001_labels_semantic.png").unlink()
    (folder / "images" / "frame0001.png").write_bytes(b"cut off")
    run = evaluate(bundle, tmp_path, "--data", f"smiyc_anomaly:{root}", "--save-scores", str(tmp_path / "scores"))
    assert run.code == 1
    assert run.sets["smiyc_anomaly"]["frames"] == 2
    assert re.search(r"1 frame\(s\) left out:\n.*frame0001\.png: not a decodable image", run.stderr)
    written = sorted(path.stem for path in (tmp_path / "scores").rglob("AnomalyTrack-all/*.hdf5"))
    assert written == ["frame0000", "frame0002", "frame0003"]


def test_scores_near_one_are_handed_in_without_ties() -> None:
    pair = np.array([1 - 2.0**-20, 1 - 2.0**-22], np.float32)
    assert pair[0] < pair[1]
    assert pair.astype(np.float16)[0] == pair.astype(np.float16)[1]
    assert submitted(pair)[0] < submitted(pair)[1]
    # The 2^11 float32 numbers just below one, one by one, and their order everywhere.
    top = 1 - np.arange(2**11, -1, -1) * 2.0**-24
    assert (np.diff(submitted(top.astype(np.float32)).astype(np.float64)) > 0).all()
    everywhere = np.linspace(0, 1, 100_001, dtype=np.float32)
    assert (np.diff(submitted(everywhere).astype(np.float64)) >= 0).all()
    small = np.exp2(-np.arange(140, 0, -1.0)).astype(np.float32)
    assert (np.diff(submitted(small).astype(np.float64)) > 0).all()
    assert submitted(np.array([0, 0.5, 1], np.float32)).tolist() == [-149.5, -0.5, 0]


def test_a_threshold_on_what_is_handed_in_is_one_on_the_score() -> None:
    score = np.array([1e-12, 1e-3, 0.25, 0.4999, 0.5, 0.9, 1 - 2.0**-20, 1.0], np.float32)
    np.testing.assert_allclose(score_of_submitted(submitted(score)), score, rtol=0.02)
    np.testing.assert_allclose(1 - score_of_submitted(submitted(score))[4:], 1 - score[4:], rtol=1e-3)


class Page(HTMLParser):
    """What an HTML page would load, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.pictures: dict[str, str] = {}
        self.boxes_of_tables: list[str] = []
        self._class = ""
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.loaded += [value for key, value in found.items() if key in ("src", "href", "srcset", "data", "action")]
        assert tag not in ("script", "link", "iframe")
        if tag == "table":
            self.boxes_of_tables.append(self._class)
        self._class = found.get("class", "")
        if tag == "img":
            self.pictures[found["alt"]] = found["src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_file_with_its_curves_and_pictures_inside(run: Run) -> None:
    page = Page(run.folder / "report.html")
    assert all(address.startswith("data:image/") for address in page.loaded)
    assert not re.search(r"url\(|@import", (run.folder / "report.html").read_text())
    charts = {name for name, uri in page.pictures.items() if uri.startswith("data:image/svg+xml;base64,")}
    assert charts == {
        "Precision over recall of smiyc_obstacle_tiny",
        "ROC, false-positive rate from 0.01 % of smiyc_obstacle_tiny",
        "Scores of the pixels of smiyc_obstacle_tiny",
        "Scores of the pixels of camvid",
        "Reliability of the classes of camvid",
    }
    photographs = {name: uri for name, uri in page.pictures.items() if uri.startswith("data:image/jpeg;base64,")}
    for caption in ("frame", "labels", "anomaly score"):
        assert any(re.fullmatch(rf"{caption} of frame000\d", name) for name in photographs)
    assert all(len(uri) > 500 for uri in page.pictures.values())
    for heading in (
        "Worst false alarms",
        "Worst misses",
        "Other scores of the same logits",
        "expected calibration error",
    ):
        assert heading in page.text
    assert f"{100 * run.sets['smiyc_obstacle_tiny']['exact']['AP']:.2f}" in page.text


def test_the_report_fits_a_narrow_screen_and_has_a_dark_mode(run: Run) -> None:
    page = Page(run.folder / "report.html")
    assert len(page.boxes_of_tables) > 4
    # A wide table scrolls in its box and does not widen the page.
    assert set(page.boxes_of_tables) == {"card scroll"}
    text = (run.folder / "report.html").read_text()
    assert "@media (prefers-color-scheme: dark)" in text
    assert 'content="width=device-width' in text
    # The minimum of a column is never wider than the screen.
    minima = re.findall(r"minmax\(([^()]*(?:\([^()]*\))?)", text)
    assert all(minimum.startswith(("min(", "0", "90px")) for minimum in minima), minima


def test_the_worst_frames_come_first() -> None:
    evaluation = SetEvaluation("images_and_masks", [], True)
    # Of 20 inliers and 5 anomalies; `missed` has all anomalies low, `alarmed` all inliers high.
    anomaly = np.array([[0] * 20 + [1] * 5], np.uint8)
    for name, inlier, outlier in (("good", 0.1, 0.9), ("missed", 0.1, 0.2), ("alarmed", 0.8, 0.9)):
        score = np.where(anomaly == 1, outlier, inlier).astype(np.float32)
        frame = LabelledFrame(name, np.zeros((1, 25, 3), np.uint8), np.full_like(anomaly, 255), anomaly)
        evaluation.update(frame, np.zeros_like(anomaly), score, None)
    assert evaluation.results()["official"]["threshold"] == pytest.approx(0.9, abs=1e-3)
    evaluation.close()
    assert (evaluation.misses[0].name, evaluation.misses[0].share) == ("missed", 1.0)
    assert {worst.share for worst in evaluation.false_alarms} == {0.0}

    point = OperatingPoint("low", 0.5, "", "")
    evaluation = SetEvaluation("camvid", ["road"], False, (point,))
    labels = np.zeros((1, 25), np.uint8)
    for name, inlier in (("good", 0.1), ("alarmed", 0.8)):
        frame = LabelledFrame(name, np.zeros((1, 25, 3), np.uint8), labels, labels)
        evaluation.update(frame, labels, np.full((1, 25), inlier, np.float32), None)
    evaluation.results()
    evaluation.close()
    assert [(worst.name, worst.share) for worst in evaluation.false_alarms] == [("alarmed", 1.0), ("good", 0.0)]
    assert evaluation.misses == []


# Classes held out


def test_a_held_out_class_becomes_the_anomaly_of_the_frames_that_show_it(
    bundle: Path, tree: Path, tmp_path: Path
) -> None:
    own = copied(bundle, tmp_path / "tiny")
    shows = [
        path.stem
        for path in sorted((tree / "val" / "labels").iterdir())
        if (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 10).any()
    ]
    assert 0 < len(shows) < 6
    run = evaluate(own, tmp_path, "--data", f"camvid:{tree / 'val'}", "--held-out", "bicyclist", "--record")
    assert run.code == 0
    found = run.sets["camvid"]
    assert found["frames"] == len(shows)
    perception = Perception(open_engine(read_bundle(bundle), "onnxruntime"), 1.0, 11)
    scores, labels = [], []
    for name in shows:
        raw = cv2.imread(str(tree / "val" / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(tree / "val" / "images" / f"{name}.png"))[..., ::-1]
        score = perception(np.ascontiguousarray(image)).anomaly_score
        scores.append(score[raw != 11])
        labels.append(raw[raw != 11] == 10)
    wanted = average_precision_score(np.concatenate(labels), np.concatenate(scores))
    assert found["exact"]["AP"] == pytest.approx(wanted, abs=1e-6)
    # The bundle knows the class: its classes are not those of what is left.
    assert "semantic" not in found
    recorded = read_bundle(own).description.training.measurements[0]
    assert recorded.data == f"camvid, bicyclist as anomalies (val, {len(shows)} frames)"
    assert recorded.command.endswith("--data camvid:FOLDER/val --held-out bicyclist")


def test_what_cannot_be_held_out_is_refused(bundle: Path, tree: Path, anomalies: Path, tmp_path: Path) -> None:
    for data, name, message in (
        (f"camvid:{tree / 'val'}", "tank", "CamVid has no class tank; it has sky, building, "),
        (f"images_and_masks:{anomalies}", "tank", "--held-out needs a training set; images and masks has anomalies of"),
    ):
        run = evaluate(bundle, tmp_path, "--data", data, "--held-out", name)
        assert run.code == 2
        assert message in run.stderr


def test_measuring_keeps_no_files_behind(
    bundle: Path, anomalies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    made: list[Path] = []
    close: Callable[[SetEvaluation], None] = SetEvaluation.close

    def watched(self: SetEvaluation) -> None:
        made.extend(spool.iterdir())
        close(self)

    monkeypatch.setattr(SetEvaluation, "close", watched)
    assert evaluate(bundle, tmp_path, "--data", f"images_and_masks:{anomalies}", "--score", "energy").code == 0
    assert made
    assert list(spool.iterdir()) == []
