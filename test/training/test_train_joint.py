"""Programs of joint training from start to bundle: resumed, refused, with each source of negatives."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from own_frames import description, write_own
from tiny_joint_training import (
    joint_arguments,
    pretrained,
)
from torch.utils.data import DataLoader

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.opening import open_engine
from training.export import main as export
from training.runs import training_run
from training.runs.checkpoint import load_checkpoint
from training.train_joint import main as train_joint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return pretrained(tmp_path_factory.mktemp("joint"))


def test_the_flow_learns_and_its_likelihood_is_logged(trained: tuple[Path, Path, Path]) -> None:
    history = load_checkpoint(trained[2])["progression"]["history"]
    assert history[-1]["bits_per_dim"] < history[0]["bits_per_dim"]
    assert history[0].keys() == {"epoch", "L_mle", "bits_per_dim"}


def test_a_folder_in_place_of_the_flows_checkpoint_is_refused(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, segmenter, flow = trained
    assert train_joint(joint_arguments((tree, segmenter, flow.parent), tmp_path)) == 2
    assert f"{flow.parent}: is no file; give a checkpoint" in capsys.readouterr().err


def test_standing_patches_need_a_drivable_class(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = description()
    for known in content["classes"]:
        known["drivable"] = False
    of_yard = (write_own(tmp_path / "yard", content), *trained[1:])
    arguments = joint_arguments(of_yard, tmp_path, negatives={"standing": 0.5}, data={"set": "folder"})
    assert train_joint(arguments) == 2
    assert (
        "negatives.standing is 0.5, but no class of folder is drivable; mark one in its file of labels (drivable: true)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "negatives": {
                "recolour": 0.5,
                "faces": 0.5,
                "shape": "varied",
                "edges": "soft",
                "faded": 0.5,
                "standing": 0.5,
                "shuffle_channels": 0.5,
                "initial_flow_share": 0.5,
            }
        },
    ],
)
def test_joint_training_in_bf16_leaves_the_flow_in_single_precision(
    changes: dict[str, Any], trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    histories = []
    for precision in ("32-true", "bf16-mixed"):
        (tmp_path / precision).mkdir()
        assert train_joint([*joint_arguments(trained, tmp_path / precision, **changes), "--precision", precision]) == 0
        histories.append(load_checkpoint(tmp_path / precision / "run" / "last.pt")["progression"]["history"])
    single, mixed = (history[0] for history in histories)
    assert mixed["L_mle"] == pytest.approx(single["L_mle"], rel=1e-3)
    assert mixed["L_cls"] == pytest.approx(single["L_cls"], rel=0.05)
    assert mixed["L_jsd"] == pytest.approx(single["L_jsd"], rel=0.2)


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_run_says_how_far_it_is_and_that_its_steps_wait_for_crops(
    slow: bool,
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Loader(DataLoader[Any]):
        def __iter__(self) -> Any:
            # All crops are made before the first step, or each only after a pause.
            for batch in list(super().__iter__()):
                time.sleep(1.0 if slow else 0.0)
                yield batch

    monkeypatch.setattr(training_run, "DataLoader", Loader)
    monkeypatch.setattr(training_run, "SAID_EVERY_S", 2.5 if slow else 300.0)
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, passes_per_epoch=4)) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert bool(re.search(r"step [34] of \d+, about 0 min left", shown)) == slow, "there is no terminal for a bar"
    assert ("the steps waited for crops" in shown) == slow
    assert ("data.workers is 0: more processes make them faster" in shown) == slow


def test_joint_training_trains_both_and_exports(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from ros_ood_perception.bundle.model_bundle import read_bundle

    assert train_joint(joint_arguments(trained, tmp_path)) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    before, flow_before = load_checkpoint(trained[1]), load_checkpoint(trained[2])
    assert any(not torch.equal(saved["segmenter"][k], v) for k, v in before["exported"].items())
    assert any(not torch.equal(saved["flow"][k], v) for k, v in flow_before["flow"].items())
    for name, value in saved["segmenter"].items():
        if "running_" in name:
            assert torch.equal(value, before["exported"][name]), f"{name}: batch statistics are frozen"
    assert saved["command"].count("python -m training.") == 3
    assert saved["command"].endswith("--segmenter CHECKPOINT --flow CHECKPOINT")
    assert {"L_cls", "L_mle", "L_jsd", "mIoU", "negative_AP"} <= set(saved["progression"]["history"][0])
    assert export([str(tmp_path / "run" / "last.pt"), str(tmp_path / "bundle"), "--data", str(trained[0])]) == 0
    assert "train_joint" in read_bundle(tmp_path / "bundle").description.training.command


@pytest.mark.parametrize("initial_flow_share", [0.0, 0.5])
def test_a_resumed_joint_run_has_the_numbers_of_an_uninterrupted_one(
    initial_flow_share: float, trained: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.joint.trainer import JointTrainer

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    negatives = {"initial_flow_share": initial_flow_share}
    assert train_joint(joint_arguments(trained, whole, negatives=negatives)) == 0
    close_epoch = JointTrainer._close_epoch

    def interrupt_after_one(self: JointTrainer, *arguments: Any) -> None:
        close_epoch(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(JointTrainer, "_close_epoch", interrupt_after_one)
    assert train_joint(joint_arguments(trained, parts, negatives=negatives)) == 130
    monkeypatch.undo()
    assert train_joint([*joint_arguments(trained, parts, negatives=negatives), "--resume"]) == 0
    a, b = (load_checkpoint(folder / "run" / "last.pt") for folder in (whole, parts))
    assert a["progression"]["history"] == b["progression"]["history"]
    for part in ("segmenter", "flow"):
        assert all(torch.equal(value, b[part][name]) for name, value in a[part].items())


@pytest.mark.parametrize(
    "changes",
    [
        {"negatives": {"source": "noise"}},
        {"negatives": {"source": "crops", "shape": "blob"}},
        {"negatives": {"source": "crops", "shuffle_channels": 0.7}},
        {"negatives": {"source": "textures"}},
        {"negatives": {"source": "none"}},
        {"negatives": {"train_flow": False}},
        {"divergence": "kullback_leibler"},
    ],
    ids=["noise", "crops", "crops in other colours", "textures", "nothing", "frozen flow", "KL"],
)
def test_what_is_there_for_comparison_runs(
    changes: dict[str, Any], trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, **changes)) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    flow_moved = any(not torch.equal(saved["flow"][k], v) for k, v in load_checkpoint(trained[2])["flow"].items())
    assert flow_moved == ("divergence" in changes)


def test_crops_of_other_images_need_other_images(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, batch_size=1, negatives={"source": "crops"})) == 2
    assert "batch_size 1 leaves each process one image" in capsys.readouterr().err


def test_validation_frames_may_differ_in_size(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    tree = Path(shutil.copytree(trained[0], tmp_path / "camvid"))
    for part in ("images", "labels"):
        for number in (0, 4):
            path = tree / "val" / part / f"val_{number:03d}.png"
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), cv2.resize(image, (100, 64 + number), interpolation=cv2.INTER_NEAREST))
    assert train_joint(joint_arguments((tree, *trained[1:]), tmp_path, epochs=1)) == 0
    assert 0 < load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["history"][0]["negative_AP"] <= 1


def test_a_folder_of_real_negatives(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder = str(trained[0] / "val" / "images")
    assert (
        train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"source": "folder", "folder": folder})) == 0
    )


def test_nothing_pasted_is_cross_entropy_alone(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"source": "none"})) == 0
    [losses] = load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["history"]
    assert losses["L_jsd"] == losses["L_mle"] == 0
    assert losses["L_cls"] > 0


def test_joint_training_starts_from_a_bundle_and_keeps_what_it_knows(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    assert export([str(trained[1]), str(bundle)]) == 0
    # A learning rate that moves nothing: what is exported again is what was there.
    still = {"epochs": 1, "optimiser": {"learning_rate": 1e-12, "warmup_steps": 1}, "ema_decay": 0.0}
    arguments = joint_arguments(trained, tmp_path, **still)
    arguments[arguments.index("--segmenter") + 1] = str(bundle)
    assert train_joint(arguments) == 0
    again = tmp_path / "again"
    assert export([str(tmp_path / "run" / "last.pt"), str(again)]) == 0
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    before, after = (open_engine(read_bundle(folder), "onnxruntime").run(image) for folder in (bundle, again))
    np.testing.assert_allclose(after.anomaly_score, before.anomaly_score, atol=1e-4)

    (tmp_path / "other").mkdir()
    arguments = joint_arguments(trained, tmp_path / "other", frozen_batch_norm=False)
    arguments[arguments.index("--segmenter") + 1] = str(bundle)
    assert train_joint(arguments) == 2
    assert "set frozen_batch_norm: true" in capsys.readouterr().err


def test_joint_training_keeps_the_initial_flow_as_it_was(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"initial_flow_share": 0.5})) == 0
    saved, before = load_checkpoint(tmp_path / "run" / "last.pt"), load_checkpoint(trained[2])["flow"]
    assert all(torch.equal(saved["initial_flow"][name], value) for name, value in before.items())
    assert any(not torch.equal(saved["flow"][name], value) for name, value in before.items())


def test_a_missing_checkpoint_is_asked_for(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = joint_arguments(trained, tmp_path)
    assert train_joint(arguments[: arguments.index("--flow")]) == 2
    assert "give --flow: joint training starts from pre-trained checkpoints" in capsys.readouterr().err
    swapped = joint_arguments(trained, tmp_path)
    swapped[swapped.index("--flow") + 1] = str(trained[1])
    assert train_joint(swapped) == 2
    assert "holds no flow (it is of a segmenter run)" in capsys.readouterr().err
