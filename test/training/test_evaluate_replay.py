"""The metrics of a replay against labels: those of `training.evaluate` on the same frames."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.evaluate import main as evaluate
from training.evaluate_replay import main as evaluate_replay


@pytest.fixture
def frames(tree: Path, tmp_path: Path) -> Path:
    """The validation frames without loss, so that both decode the same pixels, and an anomaly mask for each."""
    folder = tmp_path / "frames"
    shutil.copytree(tree / "val" / "labels", folder / "labels")
    (folder / "images").mkdir()
    (folder / "labels_masks").mkdir()
    for file in sorted((tree / "val" / "images").iterdir()):
        image = cv2.imread(str(file))
        cv2.imwrite(str(folder / "images" / f"{file.stem}.png"), image)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[10:20, 10:30] = 1
        mask[:5] = 255
        cv2.imwrite(str(folder / "labels_masks" / f"{file.stem}.png"), mask)
    return folder


def test_a_replay_with_labels_gives_the_figures_of_evaluate(frames: Path, bundle: Path, tmp_path: Path) -> None:
    options = ["--bundle", str(bundle), "--out", str(tmp_path / "replay"), "--labels", str(frames)]
    assert evaluate_replay([str(frames / "images"), *options]) == 0
    replayed = json.loads((tmp_path / "replay" / "metrics.json").read_text())["sets"]["replay"]
    expected: dict[str, dict[str, Any]] = {}
    for name in ("camvid", "images_and_masks"):
        # Each set in a folder of its own: both read `labels/`, as something else.
        folder = tmp_path / name
        shutil.copytree(frames / "images", folder / "images")
        labels = "labels" if name == "camvid" else "labels_masks"
        shutil.copytree(frames / labels, folder / labels)
        out = ["--out", str(tmp_path / "report"), "--json", str(tmp_path / "figures.json")]
        assert evaluate([str(bundle), "--data", f"{name}:{folder}", *out]) == 0
        expected |= json.loads((tmp_path / "figures.json").read_text())["sets"][name]
    assert replayed["semantic"]["mIoU"] == pytest.approx(expected["semantic"]["mIoU"], abs=1e-9)
    for kind in ("exact", "component", "per_image"):
        for figure, value in expected[kind].items():
            close = value if isinstance(value, dict) else pytest.approx(value, abs=1e-9, nan_ok=True)
            assert replayed[kind][figure] == close, (kind, figure)


def test_labels_of_another_size_or_value_are_named_and_the_others_measured(
    frames: Path, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted((frames / "labels_masks").iterdir())[:2]
    cv2.imwrite(str(first), np.zeros((4, 4), np.uint8))
    cv2.imwrite(str(second), np.full_like(cv2.imread(str(second), cv2.IMREAD_GRAYSCALE), 7))
    options = ["--bundle", str(bundle), "--out", str(tmp_path / "replay"), "--labels", str(frames)]
    assert evaluate_replay([str(frames / "images"), *options]) == 1
    figures = json.loads((tmp_path / "replay" / "metrics.json").read_text())["sets"]["replay"]
    assert figures["frames"] == len(list((frames / "images").iterdir())) - 2
    assert len(figures["left_out"]) == 2
    assert "an anomaly mask has the values 0, 1 and 255 only" in " ".join(capfd.readouterr().err.split())


def test_two_frames_do_not_share_labels_and_void_in_place_of_anomalies_is_said(
    frames: Path, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, *others = sorted((frames / "images").iterdir())
    for file in others:
        file.unlink()
    cv2.imwrite(str(first.with_suffix(".bmp")), cv2.imread(str(first)))
    mask = frames / "labels_masks" / first.name
    cv2.imwrite(str(mask), np.where(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), 255, 0).astype(np.uint8))
    options = ["--bundle", str(bundle), "--out", str(tmp_path / "replay"), "--labels", str(frames)]
    assert evaluate_replay([str(frames / "images"), *options]) == 1
    figures = json.loads((tmp_path / "replay" / "metrics.json").read_text())["sets"]["replay"]
    assert figures["frames"] == 1
    (problem,) = figures["left_out"]
    assert re.search(rf"is the label file of \S+ {first.stem}\.bmp, and fits \S+ {first.name} as well", problem)
    assert "no pixel of its 1 frame(s) is labelled as an anomaly" in figures["void_for_anomalies"]
    assert "is labelled as an anomaly, and" in " ".join(capfd.readouterr().err.split())


def test_a_folder_whose_labels_fit_no_frame_is_bad_input(frames: Path, bundle: Path, tmp_path: Path) -> None:
    for file in (frames / "labels").iterdir():
        file.rename(file.with_name(f"other_{file.name}"))
    options = ["--bundle", str(bundle), "--out", str(tmp_path / "replay"), "--labels", str(frames)]
    assert evaluate_replay([str(frames / "images"), *options]) == 2
    options[-1] = str(tmp_path)
    assert evaluate_replay([str(frames / "images"), *options]) == 2


def test_it_runs_where_only_the_demo_is_installed() -> None:
    code = (
        "import sys\n"
        "for missing in ('torch', 'h5py', 'onnx', 'transformers'):\n"
        "    sys.modules[missing] = None\n"
        "import training.evaluate_replay\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
