"""One checkpoint from several: the mean of their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ros_ood_perception.bundle.model_bundle import BundleError
from ros_ood_perception.files.strict_yaml import from_mapping
from training.bundles.network import BundleWeightsError, checkpoint_of_bundle
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

FARTHEST = 0.05
"""Largest distance of a run's weights from the mean, relative to the mean's norm. The shipped camvid_small and its
control, 587 steps from one network each, are 0.014 away. camvid_small and sample_drive, which have only the first
weights of the encoder in common, are 0.14 away, and a mean of such networks knows nothing."""


def averaged(paths: Sequence[Path]) -> dict[str, Any]:
    """The checkpoint whose exported weights are the mean of those of several runs that began from one network.

    theta = (theta_1 + ... + theta_n) / n: a uniform "soup" (Wortsman et al., arXiv 2203.05482). It costs no more than
    one of them when it runs. Statistics of a batch norm are averaged too, so they should be frozen in these runs.
    Everything else is the first run's, except the record: it names the commands of all, and the training time of the
    first with the steps of the others, without their validation.

    Args:
        paths: of checkpoints; one is given back as it is. After the first, the folder of a bundle stands for its
            network, if the runs were started from it (`--segmenter BUNDLE`).

    Raises:
        FileNotFoundError, CheckpointError: one cannot be read, holds no segmenter, holds one of another kind, classes
            or data, or one that did not begin from the same network. Of a bundle, classes and weights are compared.
    """
    first = _segmenter_checkpoint(paths[0])
    if len(paths) == 1:
        return first
    checkpoints = [
        first,
        *(_of_bundle(p, paths[0], first) if p.is_dir() else _segmenter_checkpoint(p) for p in paths[1:]),
    ]
    for path, checkpoint in zip(paths[1:], checkpoints[1:], strict=True):
        _require_alike(paths[0], first, path, checkpoint)
    weights = [checkpoint["exported"] for checkpoint in checkpoints]
    exported = {name: _mean([each[name] for each in weights]) for name in weights[0]}
    for path, each in zip(paths, weights, strict=True):
        distance = _relative_distance(each, exported)
        # Written so that NaN is refused too.
        if not distance <= FARTHEST:
            bundle = ", and with a bundle, runs that were started from its folder (--segmenter BUNDLE)"
            raise CheckpointError(
                f"{path}: its weights are {distance:.1%} of their size away from the mean of all {len(paths)} "
                f"checkpoints (at most {FARTHEST:.0%} is allowed); average runs that began from one network"
                + (bundle if any(p.is_dir() for p in paths) else "")
            )
    digests, commands, seconds = "", [], 0.0
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        with reading(path):
            digests += checkpoint["config_digest"]
            # One that an earlier one began from is in that one's record already.
            if checkpoint["command"] not in commands:
                commands += _commands(checkpoint)
                seconds += checkpoint["progression"]["training_seconds" if checkpoint is first else "step_seconds"]
    return {
        **first,
        "exported": exported,
        "progression": {**first["progression"], "training_seconds": seconds},
        "config_digest": hashlib.sha256(digests.encode()).hexdigest(),
        "command": "; ".join(dict.fromkeys(commands)),
    }


def _segmenter_checkpoint(path: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    if "exported" not in checkpoint:
        raise CheckpointError(f"{path}: holds no segmenter (it is of a {checkpoint.get('kind')} run)")
    return checkpoint


def _of_bundle(folder: Path, first_path: Path, first: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint of a bundle's run would hold for a mean. Its network is of the first run's configuration."""
    cure = "give the checkpoint of its run"
    with reading(first_path):
        config = from_mapping(first["config"]["segmenter"], SegmenterConfig, str(first_path))
        if config.network is not None:
            raise CheckpointError(f"{folder}: the graph of a bundle does not name the weights of a network; {cure}")
        segmenter = LadderSegmenter(config, len(first["classes"]), first.get("encoder"))
    try:
        found = checkpoint_of_bundle(folder, segmenter)
    except (BundleError, BundleWeightsError) as error:
        raise CheckpointError(f"{error}; {cure}") from error
    seconds = found["progression"]["training_seconds"]
    progression = {"training_seconds": seconds, "step_seconds": seconds, "earlier_commands": []}
    return {**first, **found, "progression": progression}


def _require_alike(first_path: Path, first: dict[str, Any], path: Path, other: dict[str, Any]) -> None:
    with reading(path):
        ours, theirs = _kind(first), _kind(other)
    for name, value in ours.items():
        if value != theirs[name]:
            raise CheckpointError(
                f"{path}: has another {name} than {first_path}; average runs that began from one network"
            )


def _kind(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What runs of one mean have in common, by its name for errors."""
    return {
        "configuration of the network": (checkpoint["config"]["segmenter"], checkpoint.get("encoder")),
        "input size": list(checkpoint["config"]["input_size"]),
        "list of classes": [(name, list(colour)) for name, colour in checkpoint["classes"]],
        "data set": checkpoint["data_set"],
        "list of weights": {name: value.shape for name, value in checkpoint["exported"].items()},
    }


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Of floating-point tensors. Numbers of batches and places are the first's."""
    if not values[0].is_floating_point():
        return values[0]
    return torch.stack([value.double() for value in values]).mean(dim=0).to(values[0].dtype)


def _relative_distance(weights: dict[str, Tensor], mean: dict[str, Tensor]) -> float:
    """||theta_i - theta|| / ||theta|| over all weights; statistics of a batch norm, which may be large, apart."""
    names = [name for name, value in mean.items() if value.is_floating_point() and "running_" not in name]
    apart = sum(float((weights[name].double() - mean[name].double()).square().sum()) for name in names)
    size = sum(float(mean[name].double().square().sum()) for name in names)
    return float((apart / size) ** 0.5) if size else 0.0


def _commands(checkpoint: dict[str, Any]) -> list[str]:
    """The commands of the runs before, and the run's own."""
    earlier = list(checkpoint["progression"]["earlier_commands"])
    own = str(checkpoint["command"]).removeprefix("; ".join(earlier)).removeprefix("; ")
    return [*earlier, own]
