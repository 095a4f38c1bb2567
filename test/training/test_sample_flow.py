"""A flow's samples as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.flow.image_flow import FlowConfig, ImageFlow
from training.runs.checkpoint import save_checkpoint
from training.sample_flow import main

CONFIG = FlowConfig(units=(1, 1, 1), steps=(1, 1, 1), growth=0, width=(4, 4, 4), depth=(1, 1, 1))


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "flow.pt"
    config = {"units": [1, 1, 1], "steps": [1, 1, 1], "growth": 0, "width": [4, 4, 4], "depth": [1, 1, 1]}
    save_checkpoint(path, {"kind": "flow", "config": {"flow": config}, "flow": ImageFlow(CONFIG).state_dict()})
    return path


def test_a_row_of_samples_for_each_magnification(flow: Path, tmp_path: Path) -> None:
    picture = tmp_path / "samples.png"
    arguments = [str(flow), str(picture), "--size", "32x48", "--count", "3", "--magnification", "1", "2"]
    assert main(arguments) == 0
    pixels = np.array(Image.open(picture))
    assert pixels.shape == (64, 144, 3)
    assert pixels.std() > 1
    assert main([*arguments, "--seed", "0"]) == 0
    assert np.array_equal(np.array(Image.open(picture)), pixels)


def test_what_is_no_flow_or_does_not_fit_is_named(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "segmenter.pt", {"kind": "segmenter"})
    assert main([str(tmp_path / "segmenter.pt"), str(tmp_path / "x.png")]) == 2
    assert "holds no flow (it is of a segmenter run)" in capsys.readouterr().err
    assert main([str(flow), str(tmp_path / "x.png"), "--size", "32x36", "--magnification", "4"]) == 2
    assert "must be positive multiples of 8" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
