"""The mean of several checkpoints: what it holds, and what has no mean."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.strict_yaml import from_mapping
from training.bundles.averaging import averaged
from training.bundles.network import checkpoint_of_bundle
from training.export import main as export
from training.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig


def near(checkpoint: Path, out: Path, step: float, **changes: Any) -> Path:
    """A checkpoint whose weights are `step` times a fixed random direction away, and whose own command is `out`'s."""
    saved = load_checkpoint(checkpoint)
    generator = torch.Generator().manual_seed(0)
    saved["exported"] = {
        name: value + step * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in saved["exported"].items()
    }
    saved["progression"] |= {
        "earlier_commands": ["first stage; of all"],
        "training_seconds": 120.0,
        "step_seconds": 60.0,
    }
    saved["command"] = f"first stage; of all; joint {out.stem}"
    save_checkpoint(out, {**saved, **changes})
    return out


def test_the_mean_of_opposite_steps_is_where_both_began(checkpoint: Path, tmp_path: Path) -> None:
    paths = [near(checkpoint, tmp_path / f"{name}.pt", step) for name, step in (("one", 0.001), ("two", -0.001))]
    found, begun = averaged(paths), load_checkpoint(checkpoint)
    for name, value in begun["exported"].items():
        assert found["exported"][name].dtype == value.dtype
        torch.testing.assert_close(found["exported"][name], value, rtol=1e-5, atol=1e-6)
    assert found["config_digest"] not in {load_checkpoint(path)["config_digest"] for path in paths}


def test_one_checkpoint_stays_as_it_is(checkpoint: Path) -> None:
    found, begun = averaged([checkpoint]), load_checkpoint(checkpoint)
    assert found.keys() == begun.keys()
    assert found["config_digest"] == begun["config_digest"]
    assert all(torch.equal(found["exported"][name], value) for name, value in begun["exported"].items())


def test_the_bundle_of_several_names_every_command_once_and_the_time_of_all(checkpoint: Path, tmp_path: Path) -> None:
    paths = [near(checkpoint, tmp_path / f"{name}.pt", step) for name, step in (("one", 0.001), ("two", -0.001))]
    assert export([*map(str, paths), str(tmp_path / "bundle")]) == 0
    record = read_bundle(tmp_path / "bundle").description.training
    assert record.command == "first stage; of all; joint one; joint two"
    assert record.training_minutes == 3.0


def test_the_network_that_the_others_began_from_is_counted_once(checkpoint: Path, tmp_path: Path) -> None:
    joint = near(checkpoint, tmp_path / "joint.pt", 0.001)
    begun = near(checkpoint, tmp_path / "begun.pt", 0.0, command="first stage; of all")
    found = averaged([joint, begun])
    assert found["command"] == "first stage; of all; joint joint"
    assert found["progression"]["training_seconds"] == 120.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": [("road", (1, 2, 3))]}, "has another list of classes than"),
        ({"data_set": {"name": "other", "licence": "MIT"}}, "has another data set than"),
        ({"exported": {}}, "has another list of weights than"),
        ({"classes": None}, "does not hold the values"),
    ],
)
def test_runs_of_another_kind_have_no_mean(
    changes: dict[str, Any], reason: str, checkpoint: Path, tmp_path: Path
) -> None:
    other = near(checkpoint, tmp_path / "other.pt", 0.001, **changes)
    with pytest.raises(CheckpointError, match=rf"other\.pt: {reason}"):
        averaged([checkpoint, other])


def test_networks_that_were_trained_apart_have_no_mean(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = near(checkpoint, tmp_path / "other.pt", 0.2)
    assert export([str(checkpoint), str(other), str(tmp_path / "bundle")]) == 2
    assert "average runs that began from one network" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_the_bundle_that_a_run_began_from_stands_for_its_network(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    saved = load_checkpoint(checkpoint)
    config = from_mapping(saved["config"]["segmenter"], SegmenterConfig, "checkpoint")
    begun = checkpoint_of_bundle(bundle, LadderSegmenter(config, len(saved["classes"])))
    save_checkpoint(tmp_path / "begun.pt", {**saved, "exported": begun["exported"]})
    run = near(tmp_path / "begun.pt", tmp_path / "run.pt", 0.002)
    half = averaged([near(tmp_path / "begun.pt", tmp_path / "half.pt", 0.001)])
    found = averaged([run, bundle])
    for name, value in half["exported"].items():
        torch.testing.assert_close(found["exported"][name], value, rtol=1e-5, atol=1e-6)
    assert export([str(run), str(bundle), str(tmp_path / "mean")]) == 0
    record = read_bundle(tmp_path / "mean").description.training
    assert record.command.startswith("first stage; of all; joint run; ")


def test_a_bundle_that_a_run_did_not_begin_from_is_refused(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    # The bundle's normalisations are folded into its weights, those of the run are not.
    with pytest.raises(CheckpointError, match="average runs that began from one network"):
        averaged([checkpoint, bundle])
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (broken / "bundle.yaml").write_text("format: 1\n")
    with pytest.raises(CheckpointError, match="give the checkpoint of its run"):
        averaged([checkpoint, broken])
