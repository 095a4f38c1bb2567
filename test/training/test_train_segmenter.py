"""The trainer as its user runs it, on a tiny tree in CamVid's layout."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from synthetic_camvid import write_camvid
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ros_ood_perception.files.strict_yaml import from_mapping
from training.export import main as export
from training.flow.training_config import FlowTrainingConfig
from training.runs.checkpoint import FORMAT, CheckpointError, load_checkpoint, save_checkpoint
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.segmenter.trainer import SegmenterTrainer, SupervisedObjective
from training.segmenter.training_config import OptimiserConfig, SegmenterTrainingConfig
from training.train_segmenter import main

TINY = {
    "name": "tiny",
    "epochs": 4,
    "passes_per_epoch": 2,
    "batch_size": 4,
    "ema_decay": 0.9,
    "input_size": [96, 128],
    "class_weighting": "inverse_log",
    "picture_frames": [0],
    "data": {"workers": 0},
    "segmenter": {
        "backbone_settings": {
            "embedding_size": 8,
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        "decoder_channels": 16,
        "pooling_bins": [1],
    },
    "augmentation": {"crop": [64, 64], "brightness": 0.2, "noise": 4.0},
    "optimiser": {"learning_rate": 0.01, "warmup_steps": 2},
}

SEGMENTER: Any = TINY["segmenter"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camvid(tmp_path_factory.mktemp("data") / "camvid")


def config_file(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def train(tree: Path, folder: Path, *more: str, **changes: object) -> int:
    arguments = ["--config", str(config_file(folder, **changes)), "--data", str(tree), "--accelerator", "cpu"]
    return main([*arguments, "--out", str(folder / "run"), *more])


def test_training_learns_logs_and_leaves_checkpoints(tree: Path, tmp_path: Path) -> None:
    assert train(tree, tmp_path, epochs=8) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    history = saved["progression"]["history"]
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    best = load_checkpoint(tmp_path / "run" / "best.pt")["progression"]
    assert best["best_quality"] == max(entry["mIoU"] for entry in history)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    assert len(events.Scalars("train/loss")) == 8
    assert len(events.Scalars("validation/mIoU")) == 8
    assert len(events.Scalars("validation/IoU/road")) == 8
    assert any(tag.startswith("validation/val_000") for tag in events.Tags()["images"])


def test_a_resumed_run_has_the_numbers_of_an_uninterrupted_one(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert train(tree, whole) == 0

    from training.segmenter.trainer import SegmenterTrainer

    close_epoch = SegmenterTrainer._close_epoch

    def interrupt_after_two(self: SegmenterTrainer, *arguments: object) -> None:
        close_epoch(self, *arguments)  # type: ignore[arg-type]
        if self.progression.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SegmenterTrainer, "_close_epoch", interrupt_after_two)
    assert train(tree, parts) == 130
    monkeypatch.undo()
    assert train(tree, parts, "--resume") == 0
    a, b = load_checkpoint(whole / "run" / "last.pt"), load_checkpoint(parts / "run" / "last.pt")
    assert a["progression"]["history"] == b["progression"]["history"]
    for part in ("segmenter", "average", "exported"):
        for name, tensor in a[part].items():
            assert torch.equal(tensor, b[part][name]), f"{part}.{name}"


def test_a_killed_run_leaves_a_whole_checkpoint_and_goes_on(tree: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, epochs=4, passes_per_epoch=4)
    command = [sys.executable, "-m", "training.train_segmenter", "--config", str(config), "--data", str(tree)]
    command += ["--out", str(tmp_path / "run"), "--accelerator", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch    2/"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=30)
    assert 2 <= load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["epoch"] < 4
    assert train(tree, tmp_path, "--resume", epochs=4, passes_per_epoch=4) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["epoch"] == 4


def test_a_second_stage_starts_from_the_weights_of_the_first_and_says_so(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    assert train(tree, tmp_path, epochs=6) == 0
    first = load_checkpoint(tmp_path / "run" / "best.pt")
    initial = ("--initial", str(tmp_path / "run" / "best.pt"))
    stage = {"epochs": 1, "augmentation": {"crop": [64, 64], "class_mix": 0.5}}
    assert train(tree, tmp_path / "second", *initial, **stage) == 0
    second = load_checkpoint(tmp_path / "second" / "run" / "last.pt")
    started_at = first["progression"]["history"][0]["loss"]
    assert second["progression"]["history"][0]["loss"] < started_at
    assert second["progression"]["training_seconds"] > first["progression"]["training_seconds"]
    assert second["command"].startswith(first["command"])
    assert second["command"].endswith("--initial CHECKPOINT")


def test_weights_of_another_network_are_refused(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "second").mkdir()
    assert train(tree, tmp_path, epochs=1) == 0
    other = {**TINY["segmenter"], "decoder_channels": 8}  # type: ignore[dict-item]
    assert train(tree, tmp_path / "second", "--initial", str(tmp_path / "run" / "last.pt"), segmenter=other) == 2
    assert "holds another network than this configuration's" in capsys.readouterr().err


def test_weights_of_other_classes_are_refused(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many, so that the network is the same and every label would mean another thing."""
    (tmp_path / "second").mkdir()
    assert train(tree, tmp_path, epochs=1) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    saved["classes"] = [("train" if name == "car" else name, colour) for name, colour in saved["classes"]]
    save_checkpoint(tmp_path / "other.pt", saved)
    assert train(tree, tmp_path / "second", "--initial", str(tmp_path / "other.pt")) == 2
    assert "other.pt: was trained on the classes sky, building" in capsys.readouterr().err


def test_the_running_average_lies_where_the_segmenter_lies(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the device: the meta device stands for a GPU."""
    monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
    fabric = Fabric(accelerator="cpu", strategy=SingleDeviceStrategy(device=torch.device("meta")))
    config = from_mapping(TINY, SegmenterTrainingConfig, "tiny")
    run = SegmenterTrainer(config, Path("tiny.yaml"), {"camvid": tree}, tmp_path, fabric)
    for module in (run.segmenter, run.average):
        assert {values.device.type for values in module.state_dict().values()} == {"meta"}


def test_two_processes_validate_the_network_that_they_save(tree: Path, tmp_path: Path) -> None:
    """Batch statistics are each process's own; those of the first are saved."""
    changes: dict[str, Any] = {"epochs": 2, "ema_decay": 0.0, "segmenter": {**SEGMENTER, "decoder_channels": 32}}
    arguments = ["--config", str(config_file(tmp_path, **changes)), "--data", str(tree), "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "training.train_segmenter", *arguments, "--accelerator", "cpu", "--devices", "2"]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    config = from_mapping({**TINY, **changes}, SegmenterTrainingConfig, "tiny")
    run = SegmenterTrainer(config, Path("tiny.yaml"), {"camvid": tree}, tmp_path / "run", Fabric(accelerator="cpu"))
    run.resume()
    assert run.validate(None)["mIoU"] == pytest.approx(run.progression.history[-1]["mIoU"], abs=1e-6)


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true", "64-true", "half"])
def test_a_precision_that_does_not_train_is_refused(precision: str) -> None:
    with pytest.raises(ValueError, match=f"precision is {precision}; it must be 32-true or bf16-mixed"):
        SegmenterTrainingConfig(name="tiny", precision=precision)
    with pytest.raises(ValueError, match=f"precision is {precision}; a flow is trained in 32-true"):
        FlowTrainingConfig(name="tiny", precision=precision)


def test_bf16_trains_and_leaves_numbers_of_pixels_as_they_are(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = SupervisedObjective.forward

    def watched(self: SupervisedObjective, image: Tensor, labels: Tensor, denominator: Tensor | None = None) -> Tensor:
        assert denominator is not None
        seen.append((torch.is_autocast_enabled("cpu"), denominator.dtype))
        return forward(self, image, labels, denominator)

    monkeypatch.setattr(SupervisedObjective, "forward", watched)
    assert train(tree, tmp_path, "--precision", "bf16-mixed", epochs=1) == 0
    assert set(seen) == {(True, torch.float32)}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_that_diverges_names_the_step_and_the_remedy(
    precision: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optimiser = {"learning_rate": 1e30, "warmup_steps": 0}
    assert train(tree, tmp_path, "--precision", precision, optimiser=optimiser) == 2
    assert re.search(r"the gradient of step \d+ is (nan|inf); lower the learning rate", capsys.readouterr().err)


def test_a_run_from_pretrained_weights_goes_on_and_is_exported_without_them(tree: Path, tmp_path: Path) -> None:
    encoder = LadderSegmenter(from_mapping(SEGMENTER, SegmenterConfig, "tiny"), 11).encoder
    cast(Any, encoder).save_pretrained(tmp_path / "encoder")
    segmenter = {"pretrained": str(tmp_path / "encoder"), "decoder_channels": 16, "pooling_bins": [1]}
    assert train(tree, tmp_path, epochs=1, segmenter=segmenter) == 0
    shutil.rmtree(tmp_path / "encoder")
    assert train(tree, tmp_path, "--resume", epochs=1, segmenter=segmenter) == 0
    assert export([str(tmp_path / "run" / "best.pt"), str(tmp_path / "bundle"), "--with"]) == 0


def test_a_second_run_does_not_overwrite_the_first_and_resume_needs_one(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tree, tmp_path, "--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert train(tree, tmp_path, epochs=1) == 0
    assert train(tree, tmp_path, epochs=1) == 2
    assert "exists; give --resume" in capsys.readouterr().err


def test_resuming_with_another_configuration_names_what_changed(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tree, tmp_path, epochs=1) == 0
    assert train(tree, tmp_path, "--resume", epochs=1, seed=7) == 2
    assert "seed was 0, is 7" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("weighting", ["none", "inverse_log"])
def test_labels_that_are_all_void_are_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, weighting: str
) -> None:
    tree = write_camvid(tmp_path / "camvid")
    for path in (tree / split / "labels").iterdir():
        cv2.imwrite(str(path), np.full((96, 128), 255, np.uint8))
    assert train(tree, tmp_path, class_weighting=weighting) == 2
    assert re.search(rf"CamVid \({split}\): no pixel of its \d+ frame\(s\) has a class", capsys.readouterr().err)


def test_bad_paths_are_named(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "nowhere", tmp_path) == 2
    assert f"{tmp_path / 'nowhere' / 'train' / 'images'}: no such folder" in capsys.readouterr().err
    assert train(tree, tmp_path, batch_size=100) == 2
    assert "do not fill one batch of 100" in capsys.readouterr().err


def test_one_crop_a_micro_batch_is_refused_where_batches_are_normalised(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tree, tmp_path, accumulation_steps=4) == 2
    assert "batch_size 4 leaves one crop to each micro-batch" in capsys.readouterr().err
    assert train(tree, tmp_path, accumulation_steps=2, epochs=1) == 0


@pytest.mark.parametrize("schedule", ["cosine", "polynomial"])
def test_the_learning_rate_rises_then_falls_to_its_end(schedule: str) -> None:
    config = OptimiserConfig(schedule=schedule, warmup_steps=10, final_factor=0.01)  # type: ignore[arg-type]
    factors = [config.factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.01, abs=0.01)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"a\.pt: not a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"format": "other"}, path)
    with pytest.raises(CheckpointError, match=f"format is 'other'; this version reads '{FORMAT}'"):
        load_checkpoint(path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"value": 1})
    with pytest.raises(ValueError, match="has a function, which no checkpoint of this project has"):
        save_checkpoint(path, {"value": lambda: None})
    assert load_checkpoint(path)["value"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
