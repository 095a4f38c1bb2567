"""A bundle's weights, back in the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.opening import open_engine
from training.bundles.network import BundleWeightsError, checkpoint_of_bundle
from training.runs.checkpoint import load_checkpoint
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig


def network(checkpoint: Path, **changes: Any) -> LadderSegmenter:
    saved = load_checkpoint(checkpoint)
    config = from_mapping({**saved["config"]["segmenter"], **changes}, SegmenterConfig, "tiny")
    return LadderSegmenter(config, len(saved["classes"]))


def test_a_network_with_a_bundles_weights_computes_what_the_bundle_computes(bundle: Path, checkpoint: Path) -> None:
    description = read_bundle(bundle).description
    segmenter = network(checkpoint)
    segmenter.load_state_dict(checkpoint_of_bundle(bundle, segmenter)["exported"])
    model = DeployedSegmenter(segmenter, description.input.size, temperature=1.0).eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 90, 120, 3), np.uint8)
    with torch.no_grad():
        semantic, score = model(torch.from_numpy(image))
    output = open_engine(read_bundle(bundle), "onnxruntime").run(image)
    assert (semantic.numpy() == output.semantic).mean() > 0.999
    np.testing.assert_allclose(score.numpy(), output.anomaly_score, atol=1e-4)


def test_the_bundles_record_comes_along(bundle: Path, checkpoint: Path) -> None:
    training = read_bundle(bundle).description.training
    found = checkpoint_of_bundle(bundle, network(checkpoint))
    assert found["command"] == training.command
    assert found["progression"]["training_seconds"] == 60 * training.training_minutes


def test_another_network_than_the_bundles_is_refused(bundle: Path, checkpoint: Path) -> None:
    with pytest.raises(BundleWeightsError, match="in this configuration"):
        checkpoint_of_bundle(bundle, network(checkpoint, decoder_channels=24))
    with pytest.raises(BundleWeightsError, match="another network"):
        checkpoint_of_bundle(bundle, network(checkpoint, pooling_bins=[1, 2]))
