"""`python -m training.evaluate --scores`: scores of another method, measured by the same metrics as a bundle's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from synthetic_camvid import write_anomalies

from training.data.registry import open_data_set
from training.evaluate import main
from training.evaluation.smiyc_scores import submitted
from training.metrics.component_smiyc import ANOMALY_TRACK, SmiycComponentMetrics
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics

Score = NDArray[Any]


def write_hdf5(path: Path, score: Score) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset("value", data=score.astype(np.float16), compression=4)


def write_npy(path: Path, score: Score) -> None:
    np.save(path.with_suffix(".npy"), score)


def write_png(path: Path, score: Score) -> None:
    Image.fromarray(np.round(score * 65535).astype(np.uint16)).save(path.with_suffix(".png"))


def write_tiff(path: Path, score: Score) -> None:
    Image.fromarray(score).save(path.with_suffix(".tif"), compression="tiff_lzw")


def as_float16(score: Score) -> Score:
    return score.astype(np.float16).astype(np.float32)


def as_png(score: Score) -> Score:
    return (np.round(score * 65535) / np.float32(65535)).astype(np.float32)


def itself(score: Score) -> Score:
    return score


def scores_of(frames: Any, logits: bool) -> dict[str, Score]:
    """Higher on anomalies, with much overlap; of [0, 1] or any numbers."""
    generator = np.random.default_rng(2)
    found = {}
    for frame in frames:
        score = generator.standard_normal(frame.anomaly.shape) + 3.0 * (frame.anomaly == 1) - 4.0
        found[frame.name] = (score if logits else 1 / (1 + np.exp(-score))).astype(np.float32)
    return found


def evaluate(scores: Path, data: Path, folder: Path, *more: str) -> dict[str, Any]:
    arguments = ["--scores", str(scores), "--data", f"images_and_masks:{data}", "--out", str(folder / "out")]
    assert main([*arguments, "--json", str(folder / "figures.json"), *more]) == 0
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return figures


@pytest.mark.parametrize(
    ("write", "logits", "kept", "value"),
    [
        (write_hdf5, False, as_float16, as_float16),
        (write_hdf5, True, as_float16, as_float16),
        (write_npy, False, itself, submitted),
        (write_npy, True, itself, as_float16),
        (write_png, False, as_png, submitted),
        (write_tiff, False, itself, submitted),
        (write_tiff, True, itself, as_float16),
    ],
)
def test_every_format_gives_the_figures_of_the_scores_in_it(
    write: Callable[[Path, Score], None],
    logits: bool,
    kept: Callable[[Score], Score],
    value: Callable[[Score], Score],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_anomalies(tmp_path / "data")
    frames = open_data_set("images_and_masks", data)
    (tmp_path / "method").mkdir()
    exact, official = ExactPixelMetrics(), SmiycPixelMetrics()
    scores = scores_of(frames, logits)
    for frame in frames:
        write(tmp_path / "method" / frame.name, scores[frame.name])
        exact.update(kept(scores[frame.name]), frame.anomaly)
        official.update(value(kept(scores[frame.name])), frame.anomaly)
    figures = evaluate(tmp_path / "method", data, tmp_path)
    found = figures["sets"]["images_and_masks"]
    assert found["frames"] == len(frames)
    wanted = exact.compute()
    assert (found["exact"]["AP"], found["exact"]["FPR95"], found["exact"]["AUROC"]) == pytest.approx(
        (wanted.ap, wanted.fpr95, wanted.auroc), abs=1e-12
    )
    assert 0.1 < wanted.ap < 0.999
    pixels = official.compute()
    assert (found["official"]["AP"], found["official"]["best_f1"]) == pytest.approx((pixels.ap, pixels.best_f1))
    components = SmiycComponentMetrics(pixels.threshold, ANOMALY_TRACK)
    for frame in frames:
        components.update(value(kept(scores[frame.name])), frame.anomaly)
    assert found["component"]["sIoU"] == pytest.approx(components.compute().siou)
    assert found["component"]["predicted_components"] == components.compute().predicted_components
    # A curve over thresholds from 0 to 1 is defined for scores from 0 to 1 only.
    assert (found["threshold_curves"]["AUTC"] is None) == logits
    assert "semantic" not in found
    shown = capsys.readouterr().out
    assert f"{100 * wanted.ap:.2f}" in shown
    assert "the bundle's" not in shown
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Evaluation of method" in report
    assert "The measured model" not in report


def damage(kind: str, folder: Path) -> None:
    first = folder / "frame0000.npy"
    score = np.load(first)
    if kind == "missing":
        first.unlink()
        (folder / "frame0001.npy").unlink()
    elif kind == "extra":
        np.save(folder / "frame0009.npy", score)
    elif kind == "twice":
        Image.fromarray(score).save(folder / "frame0000.tif")
    elif kind == "size":
        np.save(first, score[:48])
    elif kind == "nan":
        score[3, 4:6] = np.nan
        np.save(first, score)
    elif kind == "infinite":
        np.save(first, score.astype(np.float64) * 1e300)
    elif kind == "integers":
        np.save(first, (255 * score).astype(np.uint8))
    elif kind == "channels":
        np.save(first, score[None])
    elif kind == "pickle":
        np.save(first, np.array([{}], object), allow_pickle=True)
    elif kind == "bytes":
        first.write_bytes(b"no scores")
    elif kind == "png8":
        first.unlink()
        Image.fromarray((255 * score).astype(np.uint8)).save(folder / "frame0000.png")
    elif kind == "link":
        h5py = pytest.importorskip("h5py")
        first.unlink()
        with h5py.File(folder / "frame0000.hdf5", "w") as file:
            file["value"] = h5py.ExternalLink("/etc/hostname", "value")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "missing",
            r"method: 2 of 4 frames have no scores \(frame0000, frame0001\)\. A file has the name of",
        ),
        ("extra", r"method: 1 files are of no frame of the set \(frame0009\)"),
        ("twice", r"frame0000.tif: frame0000.npy has scores of the frame frame0000 too; keep one"),
        ("size", r"frame0000.npy: the scores are 48x128 \(height x width\), the labels of frame0000 are 96x128"),
        ("nan", r"frame0000.npy: 2 of 12288 scores are NaN or infinite"),
        ("infinite", r"frame0000.npy: 12288 of 12288 scores are NaN or infinite, as float32"),
        ("integers", r"frame0000.npy: the scores are uint8; write them as float16, float32 or float64"),
        ("channels", r"frame0000.npy: the scores have the shape \(1, 96, 128\); they must be \(height, width\)"),
        ("pickle", r"frame0000.npy: not readable as a .npy file \(.*allow_pickle=False"),
        ("bytes", r"frame0000.npy: not readable as a .npy file"),
        ("png8", r"frame0000.png: has 8 bits, which tie different scores; write 16 bits"),
        ("link", r"frame0000.hdf5: holds no dataset 'value' of its own"),
    ],
)
def test_what_cannot_be_measured_is_named(
    kind: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_anomalies(tmp_path / "data")
    (tmp_path / "method").mkdir()
    for name, score in scores_of(open_data_set("images_and_masks", data), logits=False).items():
        write_npy(tmp_path / "method" / name, score)
    damage(kind, tmp_path / "method")
    out = tmp_path / "out"
    code = main(
        ["--scores", str(tmp_path / "method"), "--data", f"images_and_masks:{data}", "--out", str(out), "--exact-only"]
    )
    assert code == 2
    assert re.search(rf"evaluate: .*{message}", capsys.readouterr().err)
    assert not (out / "report.html").exists()


def test_options_that_do_not_go_with_scores_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_anomalies(tmp_path / "data", frames=1)
    given = ["--scores", str(tmp_path), "--data", f"images_and_masks:{data}"]
    for more, message in (
        (["a_bundle"], "--scores takes one --data NAME:PATH and no bundle"),
        (["--data", f"images_and_masks_b:{data}"], "--scores takes one --data"),
        (["--record", "--score", "entropy"], "--score and --record: only for a bundle"),
    ):
        with pytest.raises(SystemExit):
            main([*more, *given])
        assert message in capsys.readouterr().err
    assert main(["--scores", str(tmp_path / "nowhere"), *given[2:]]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
