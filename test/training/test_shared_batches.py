"""Micro-batches and several processes take the step of one batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_joint_training import (
    FLOW,
    SHARED,
    joint_arguments,
    pretrained,
)

from training.runs.checkpoint import load_checkpoint
from training.train_flow import main as train_flow
from training.train_joint import main as train_joint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return pretrained(tmp_path_factory.mktemp("joint"))


def test_micro_batches_take_the_step_of_the_batch(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    results = []
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        folder.mkdir()
        changes = {
            "accumulation_steps": parts,
            "negatives": {"recolour": 0.5, "shuffle_channels": 0.7, "initial_flow_share": 0.5},
        }
        assert train_joint(joint_arguments(trained, folder, epochs=1, **changes)) == 0
        results.append(load_checkpoint(folder / "run" / "last.pt"))
    one, two = results
    # How a batch is divided shapes no result: a run may go on with other numbers of micro-batches.
    assert one["config_digest"] == two["config_digest"]
    assert_same_training(one, two)


def test_two_processes_under_torchrun_take_the_step_of_one(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Each with two micro-batches."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    negatives = {"recolour": 0.5, "standing": 0.5, "shuffle_channels": 0.7, "initial_flow_share": 0.5}
    assert train_joint(joint_arguments(trained, one, epochs=1, negatives=negatives)) == 0
    arguments = joint_arguments(trained, two, epochs=1, accumulation_steps=2, negatives=negatives)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    log = run_program([*launcher, "-m", "training.train_joint", *arguments])
    assert log.count("epoch    1/1") == 1, "processes that know of each other log once"
    assert_same_training(*(load_checkpoint(folder / "run" / "last.pt") for folder in (one, two)))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_program(arguments: list[str]) -> str:
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same_training(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Same losses and same weights after an epoch, up to the order of floating-point sums."""
    a, b = (saved["progression"]["history"][0] for saved in (one, other))
    # Both logged figures are those of the whole batch.
    assert {name: b[name] for name in a} == {name: pytest.approx(value, rel=1e-3) for name, value in a.items()}
    for part in ("segmenter", "flow"):
        for name, value in one.get(part, {}).items():
            if value.is_floating_point():
                torch.testing.assert_close(other[part][name], value, rtol=1e-3, atol=2e-5, msg=f"{part}.{name}")


def flow_arguments(tree: Path, folder: Path, **changes: Any) -> list[str]:
    config = {"name": "flow", "flow": FLOW, "augmentation": {"crop": [32, 32]}, "validation_crops": 4, **SHARED}
    folder.mkdir()
    (folder / "flow.yaml").write_text(yaml.safe_dump({**config, "epochs": 1, **changes}))
    arguments = ["--config", str(folder / "flow.yaml"), "--data", str(tree), "--out", str(folder / "run")]
    return [*arguments, "--accelerator", "cpu"]


def test_a_flow_is_pre_trained_the_same_in_two_processes_and_in_micro_batches(
    trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """From the activation norms' first statistics on, and with noise channels."""
    assert train_flow(flow_arguments(trained[0], tmp_path / "one")) == 0
    assert train_flow(flow_arguments(trained[0], tmp_path / "parts", accumulation_steps=4)) == 0
    arguments = flow_arguments(trained[0], tmp_path / "two")
    run_program(["-m", "training.train_flow", *arguments, "--devices", "2"])
    one, parts, two = (load_checkpoint(tmp_path / name / "run" / "last.pt") for name in ("one", "parts", "two"))
    assert_same_training(one, parts)
    assert_same_training(one, two)


def test_a_batch_that_cannot_be_divided_is_refused(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_flow(flow_arguments(trained[0], tmp_path / "run", accumulation_steps=3)) == 2
    assert "batch_size 4 cannot be shared by 1 process(es) in 3 micro-batch(es) each" in capsys.readouterr().err


def test_options_that_contradict_torchrun_are_refused(
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert train_flow([*flow_arguments(trained[0], tmp_path / "run"), "--devices", "1"]) == 2
    assert "torchrun started 2 process(es) on each of 3 host(s)" in capsys.readouterr().err
